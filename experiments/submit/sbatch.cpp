// SPDX-License-Identifier: Apache-2.0
#include "experiments/submit/sbatch.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace chunkstate {
namespace {

std::string read_all(int descriptor) {
  std::string text;
  char block[4096];
  for (;;) {
    const ssize_t got = ::read(descriptor, block, sizeof(block));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(block, static_cast<std::size_t>(got));
  }
}

}  // namespace

std::string sbatch(const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {"sbatch", "--parsable"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);

  int channel[2];
  if (::pipe2(channel, O_CLOEXEC) != 0) {
    throw std::system_error(errno, std::generic_category(), "pipe");
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, channel[1], STDOUT_FILENO);
  pid_t child = -1;
  const int error = posix_spawnp(&child, "sbatch", &actions, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(channel[1]);
  const std::string answer = error == 0 ? read_all(channel[0]) : "";
  ::close(channel[0]);
  if (error == ENOENT) {
    throw std::runtime_error("sbatch is not in PATH: no Slurm here? --dry-run shows the scripts");
  }
  if (error != 0) throw std::system_error(error, std::generic_category(), "sbatch");
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "waitpid");
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw std::runtime_error("sbatch failed");
  const std::string id = answer.substr(0, answer.find_first_not_of("0123456789"));  // "12;cluster"
  if (id.empty()) throw std::runtime_error("sbatch named no job: " + answer);
  return id;
}

}  // namespace chunkstate
