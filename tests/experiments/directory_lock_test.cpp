// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/directory_lock.hpp"

#include <dlfcn.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"

using namespace chunkstate;

namespace {

bool kernel_locks = true;

std::string refusal(const std::filesystem::path& directory, Shard shard = {}) {
  try {
    const DirectoryLock lock(directory, shard);
    return "";
  } catch (const LockedError& error) {
    return error.what();
  }
}

}  // namespace

/// Stands in the way of libc's: a file system without kernel locks.
extern "C" int flock(int file, int operation) {
  static const auto real = reinterpret_cast<int (*)(int, int)>(dlsym(RTLD_NEXT, "flock"));
  if (kernel_locks) return real(file, operation);
  errno = ENOLCK;
  return -1;
}

TEST_CASE("a second run in a directory is refused and told who is there") {
  const TemporaryFolder directory;
  {
    const DirectoryLock lock(directory.path() / "new/results");
    std::string message;
    try {
      const DirectoryLock second(directory.path() / "new/results");
    } catch (const LockedError& error) {
      message = error.what();
    }
    CHECK(message.find("pid " + std::to_string(getpid())) != std::string::npos);
    CHECK(message.find(this_process().host) != std::string::npos);
  }
  const DirectoryLock again(directory.path() / "new/results");
  CHECK(again.taken_over_from().empty());
}

TEST_CASE("shards share a directory, each once, and a whole run has it alone") {
  for (const bool kernel : {true, false}) {
    CAPTURE(kernel);
    kernel_locks = kernel;
    const TemporaryFolder directory;
    const std::string self = "pid " + std::to_string(getpid());
    {
      const DirectoryLock first(directory.path(), {0, 4});
      const DirectoryLock second(directory.path(), {1, 4});
      const DirectoryLock other_width(directory.path(), {0, 3});
      CHECK(refusal(directory.path(), {0, 4}).find(self) != std::string::npos);
      CHECK(refusal(directory.path()).find(self) != std::string::npos);
    }
    {
      const DirectoryLock whole(directory.path());
      CHECK(refusal(directory.path(), {0, 4}).find(self) != std::string::npos);
      CHECK(refusal(directory.path()).find(self) != std::string::npos);
    }
    CHECK(refusal(directory.path(), {0, 4}).empty());
    kernel_locks = true;
  }
}

TEST_CASE("a run that is refused because of a shard names the shard, not a run that was killed") {
  const TemporaryFolder directory;
  write_bytes(directory.path() / "lock",
              R"({"boot_id":"b","host":"elsewhere","pid":1,"since":"2020","start_ticks":5})");
  const DirectoryLock shard(directory.path(), {2, 4});
  CHECK(refusal(directory.path()).find("pid " + std::to_string(getpid())) != std::string::npos);
}

TEST_CASE("the lock of a killed process is taken over") {
  const TemporaryFolder directory;
  int channel[2];
  REQUIRE(pipe(channel) == 0);
  const pid_t child = fork();
  if (child == 0) {
    const DirectoryLock lock(directory.path());
    if (write(channel[1], "x", 1) != 1) _exit(1);
    pause();
  }
  char byte = 0;
  REQUIRE(read(channel[0], &byte, 1) == 1);
  CHECK_THROWS_AS(DirectoryLock(directory.path()), LockedError);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(channel[0]);
  close(channel[1]);
  const DirectoryLock lock(directory.path());
  CHECK(lock.taken_over_from().find("pid " + std::to_string(child)) == 0);
}

TEST_CASE("a lock file of an earlier boot, of another host, or of rubbish is taken over") {
  for (const std::string content :
       {R"({"boot_id":"old","host":"gone","pid":1,"since":"2020","start_ticks":5})", "not json",
        "{}"}) {
    CAPTURE(content);
    const TemporaryFolder directory;
    write_bytes(directory.path() / "lock", content);
    CHECK_NOTHROW(DirectoryLock(directory.path()));
  }
}

TEST_CASE("an output that is a file is an error that names it") {
  const TemporaryFolder directory;
  write_bytes(directory.path() / "file", "x");
  std::string message;
  try {
    const DirectoryLock lock(directory.path() / "file");
  } catch (const FileError& error) {
    message = error.what();
  }
  CHECK(message.find((directory.path() / "file").string()) == 0);
}

TEST_CASE("a reused process id is not the process") {
  ProcessIdentity self = this_process();
  CHECK(liveness(self) == Liveness::alive);
  self.start_ticks += 1;
  CHECK(liveness(self) == Liveness::dead);
  self = this_process();
  self.boot_id = "an earlier one";
  CHECK(liveness(self) == Liveness::dead);
  self.host = "elsewhere";
  CHECK(liveness(self) == Liveness::unknown);
}
