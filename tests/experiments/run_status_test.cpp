// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/run_status.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <cmath>

#include "tests/catch.hpp"
#include "tests/experiments/example_records.hpp"
#include "tests/temporary_folder.hpp"

using namespace chunkstate;

TEST_CASE("status counts what is done, failed and running") {
  const TemporaryFolder directory;
  // A process that dies with a claim open.
  const pid_t child = fork();
  if (child == 0) {
    JournalWriter writer(directory.path(), example_start(), Durability::none);
    writer.append(example_record(0, 0, 0));
    writer.claim("lost");
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  {
    JournalWriter ended(directory.path(), example_start(), Durability::none);
    ended.append(failed_record(0, 1, 0, "InputError: x"));
    ended.append(failed_record(1, 0, 0, "InputError: y"));
    ended.append(failed_record(1, 1, 0, "InputError: y"));
    ended.append(example_record(0, 0, 0));  // a duplicate
    ended.end("done");
  }
  RunStart start = example_start();
  start.provenance.rank = 4;
  JournalWriter live(directory.path(), start, Durability::none);
  usleep(20000);
  live.append(example_record(0, 2, 0));
  live.claim("now");

  const RunStatus status = read_status(directory.path());
  CHECK(status.items == 12);
  CHECK(status.done == 2);
  CHECK(status.failed == 3);
  REQUIRE(status.failures.size() == 2);
  CHECK(status.failures[0].error == "InputError: y");
  CHECK(status.failures[0].items == 2);
  CHECK(status.failures[1].items == 1);
  CHECK(status.running == 1);
  CHECK(status.remaining == 7);
  CHECK(status.live_processes == 1);
  CHECK(status.slowest == -1);
  REQUIRE(status.processes.size() == 3);
  CHECK(status.processes[0].state == "died");
  CHECK(status.processes[1].state == "ended");
  CHECK(status.processes[2].state == "running");
  CHECK(status.processes[2].item == "now");
  CHECK(status.processes[2].rank == 4);
  CHECK(status.processes[2].items_per_second > 0);
  CHECK(status.eta_seconds == Approx(7 / status.processes[2].items_per_second));
}

TEST_CASE("the slowest of several live processes is named") {
  const TemporaryFolder directory;
  JournalWriter quick(directory.path(), example_start(), Durability::none);
  usleep(1000);
  JournalWriter slow(directory.path(), example_start(), Durability::none);
  usleep(50000);
  // So many that the rates keep their order where a busy machine makes the first journal 2 s older.
  for (int item = 0; item < 100; ++item) quick.append(example_record(0, item, 0));
  slow.append(example_record(0, 100, 0));
  const RunStatus status = read_status(directory.path());
  CHECK(status.live_processes == 2);
  CHECK(status.slowest == 1);
}

TEST_CASE("nothing done yet gives no estimate") {
  const TemporaryFolder directory;
  CHECK(read_status(directory.path()).items == 0);
  const JournalWriter writer(directory.path(), example_start(), Durability::none);
  const RunStatus status = read_status(directory.path());
  CHECK(status.remaining == 12);
  CHECK(std::isnan(status.eta_seconds));
}
