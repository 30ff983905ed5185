// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/directory_lock.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"

using namespace chunkstate;

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
    CHECK(lock_holder(directory.path() / "new/results").find("pid ") == 0);
  }
  const DirectoryLock again(directory.path() / "new/results");
  CHECK(again.taken_over_from().empty());
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
  CHECK(lock_holder(directory.path()).empty());
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
