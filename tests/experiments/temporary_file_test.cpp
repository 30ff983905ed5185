// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/temporary_file.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"

using namespace chunkstate;

namespace {

std::size_t files_in(const std::filesystem::path& directory) {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator(directory), {}));
}

void leave_behind(const std::filesystem::path& target) {
  const pid_t child = fork();
  if (child == 0) {
    const TemporaryFile temporary(target);
    std::ofstream(temporary.path()) << "half";
    _exit(0);  // without destructors, as if it were killed
  }
  waitpid(child, nullptr, 0);
}

}  // namespace

TEST_CASE("A temporary file goes with its scope unless it was renamed") {
  const TemporaryFolder folder;
  const auto target = folder.path() / "results.h5";
  {
    const TemporaryFile temporary(target);
    std::ofstream(temporary.path()) << "x";
    CHECK(files_in(folder.path()) == 1);
  }
  CHECK(files_in(folder.path()) == 0);
  {
    const TemporaryFile temporary(target);
    std::ofstream(temporary.path()) << "x";
    std::filesystem::rename(temporary.path(), target);
  }
  CHECK(std::filesystem::exists(target));
}

TEST_CASE("What dead processes left of a target is removed, nothing else") {
  const TemporaryFolder folder;
  const auto target = folder.path() / "results.h5";
  leave_behind(target);
  leave_behind(target);
  leave_behind(folder.path() / "manifest.h5");
  folder.write("results.h5.tmp.elsewhere.12.34", "of another machine");
  folder.write("results.h5.tmp.notes", "somebody's own");
  const TemporaryFile living(folder.path() / "results.h5");
  std::ofstream(living.path()) << "mine";
  const TemporaryFile next(target);
  CHECK(std::filesystem::exists(living.path()));
  CHECK(files_in(folder.path()) == 4);  // manifest's, elsewhere's, the notes, the living one
}
