// SPDX-License-Identifier: Apache-2.0
#include "experiments/submit/command.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <system_error>

namespace chunkstate {
namespace {

using Clock = std::chrono::steady_clock;

/// A pipe's two ends, the second for a child.
class Pipe {
 public:
  Pipe() {
    if (::pipe2(ends_.data(), O_CLOEXEC) != 0) {
      throw std::system_error(errno, std::generic_category(), "pipe");
    }
  }
  ~Pipe() {
    for (const int end : ends_) {
      if (end >= 0) ::close(end);
    }
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;

  int in() const { return ends_[0]; }
  int out() const { return ends_[1]; }
  void close_out() {
    ::close(ends_[1]);
    ends_[1] = -1;
  }

 private:
  std::array<int, 2> ends_{-1, -1};
};

int spawn(std::vector<std::string>& words, const Pipe& output, const Pipe& errors, pid_t& child) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output.out(), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, errors.out(), STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  const int error =
      posix_spawnp(&child, pointers[0], &actions, &attributes, pointers.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

/// Until both ends are closed; false if that takes longer than the command may.
bool read_both(const Pipe& output, const Pipe& errors, int seconds, CommandResult& result) {
  const auto end = Clock::now() + std::chrono::seconds(seconds);
  std::array<pollfd, 2> sources{{{output.in(), POLLIN, 0}, {errors.in(), POLLIN, 0}}};
  std::string* const texts[] = {&result.output, &result.errors};
  while (sources[0].fd >= 0 || sources[1].fd >= 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
    if (seconds > 0 && left.count() <= 0) return false;
    const int ready =
        ::poll(sources.data(), sources.size(), seconds > 0 ? static_cast<int>(left.count()) : -1);
    if (ready < 0 && errno != EINTR) return true;
    for (std::size_t i = 0; ready > 0 && i < sources.size(); ++i) {
      if (sources[i].revents == 0) continue;
      char block[4096];
      const ssize_t got = ::read(sources[i].fd, block, sizeof(block));
      if (got > 0) texts[i]->append(block, static_cast<std::size_t>(got));
      if (got == 0 || (got < 0 && errno != EINTR)) sources[i].fd = -1;
    }
  }
  return true;
}

}  // namespace

CommandResult run_command(std::vector<std::string> words, int seconds) {
  Pipe output, errors;
  CommandResult result;
  pid_t child = -1;
  const int error = spawn(words, output, errors, child);
  output.close_out();
  errors.close_out();
  if (error == ENOENT) {
    result.found = false;
    return result;
  }
  if (error != 0) throw std::system_error(error, std::generic_category(), words[0]);
  result.timed_out = !read_both(output, errors, seconds, result);
  if (result.timed_out) ::kill(-child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "waitpid");
  }
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace chunkstate
