// SPDX-License-Identifier: Apache-2.0
#include "experiments/report/png.hpp"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace chunkstate {

bool draw_png(const std::filesystem::path& svg, const std::filesystem::path& png) {
  std::vector<std::string> words = {"rsvg-convert", "--zoom=2",   "--background-color=white",
                                    "-o",           png.string(), svg.string()};
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  pid_t child = -1;
  const int error =
      posix_spawnp(&child, "rsvg-convert", nullptr, nullptr, pointers.data(), environ);
  if (error == ENOENT) return false;
  if (error != 0) throw std::system_error(error, std::generic_category(), "rsvg-convert");
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "waitpid");
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    throw std::runtime_error("rsvg-convert failed on " + svg.string());
  }
  return true;
}

}  // namespace chunkstate
