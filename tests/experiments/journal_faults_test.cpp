// SPDX-License-Identifier: Apache-2.0
// The journal on a failing disk and under kill -9. write() and fdatasync() are replaced for this
// executable.
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <thread>

#include "experiments/record/journal.hpp"
#include "tests/catch.hpp"
#include "tests/experiments/example_records.hpp"
#include "tests/temporary_folder.hpp"

using namespace chunkstate;

namespace {

/// What the replaced calls do while a test has armed them.
struct Faults {
  std::atomic<bool> armed{false};
  std::atomic<int> writes{0};
  std::atomic<int> syncs{0};
  std::atomic<int> good_writes{1 << 30};  // then one is short, and all later ones fail
  std::atomic<int> good_syncs{1 << 30};   // then all fail
  std::atomic<int> error{0};
  std::atomic<std::size_t> largest_write{1 << 30};
  std::atomic<bool> interrupt{false};  // every second write and sync is interrupted by a signal
} faults;

struct Armed {
  Armed() {
    faults.writes = faults.syncs = 0;
    faults.good_writes = faults.good_syncs = 1 << 30;
    faults.largest_write = 1 << 30;
    faults.interrupt = false;
    faults.armed = true;
  }
  ~Armed() { faults.armed = false; }
};

int failure(int number, int error) {
  errno = number;
  return error;
}

}  // namespace

extern "C" ssize_t write(int fd, const void* bytes, size_t count) {
  if (!faults.armed || fd <= 2) return syscall(SYS_write, fd, bytes, count);
  const int number = ++faults.writes;
  if (faults.interrupt && number % 2 == 1) return failure(EINTR, -1);
  if (number == faults.good_writes + 1) return syscall(SYS_write, fd, bytes, count / 2);
  if (number > faults.good_writes) return failure(faults.error, -1);
  return syscall(SYS_write, fd, bytes, std::min(count, faults.largest_write.load()));
}

extern "C" int fdatasync(int fd) {
  if (faults.armed) {
    const int number = ++faults.syncs;
    if (faults.interrupt && number % 2 == 1) return failure(EINTR, -1);
    if (number > faults.good_syncs) return failure(faults.error, -1);
  }
  return static_cast<int>(syscall(SYS_fdatasync, fd));
}

namespace {

std::int64_t append_items(JournalWriter& writer, std::int64_t first, std::int64_t count) {
  for (std::int64_t item = first; item < first + count; ++item) {
    writer.claim(example_record(0, item, 0).item_id);
    writer.append(example_record(0, item, 0));
  }
  return first + count;
}

}  // namespace

TEST_CASE("short writes and interrupting signals lose nothing") {
  const TemporaryFolder directory;
  const Armed armed;
  faults.largest_write = 7;
  faults.interrupt = true;
  {
    JournalWriter writer(directory.path(), example_start(), Durability::item);
    append_items(writer, 0, 5);
    writer.end("done");
  }
  CHECK(faults.writes > 500);
  const JournalContents contents = read_journals(directory.path());
  CHECK(contents.records.size() == 5);
  CHECK(contents.bad_lines.empty());
  CHECK(contents.files.at(0).ended);
}

TEST_CASE("a full disk stops the journal at its last acknowledged line") {
  for (const int error : {ENOSPC, EDQUOT, EIO}) {
    for (const int good_writes : {1, 2, 15, 16, 31, 32, 33, 34, 64, 65, 79}) {
      CAPTURE(error, good_writes);
      const TemporaryFolder directory;
      const Armed armed;
      faults.error = error;
      faults.good_writes = good_writes;
      JournalWriter writer(directory.path(), example_start(), Durability::group);
      int thrown = 0;
      try {
        append_items(writer, 0, 40);
      } catch (const FileError& failure) {
        thrown = failure.code().value();
        CHECK(failure.disk_full() == (error != EIO));
        CHECK(std::string(failure.what()).find(writer.path().string()) == 0);
      }
      REQUIRE(thrown == error);
      faults.good_writes = 1 << 30;  // space again: the writer stays closed all the same
      CHECK_THROWS_AS(writer.claim("x"), FileError);
      CHECK_THROWS_AS(writer.flush(), FileError);
      CHECK_THROWS_AS(writer.end("done"), FileError);

      const JournalContents contents = read_journals(directory.path());
      REQUIRE(static_cast<std::int64_t>(contents.records.size()) == writer.acknowledged());
      REQUIRE(contents.torn_tails == 0);
      REQUIRE(contents.files.at(0).has_start);
      REQUIRE(writer.acknowledged() == (good_writes - 1) / 2 / 16 * 16);
    }
  }
}

TEST_CASE("a full disk at the very first line is an error at once") {
  const TemporaryFolder directory;
  const Armed armed;
  faults.error = ENOSPC;
  faults.good_writes = 0;
  CHECK_THROWS_AS(JournalWriter(directory.path(), example_start(), Durability::item), FileError);
  CHECK(read_journals(directory.path()).records.empty());
}

TEST_CASE("a failed sync is never tried again, and what it covered is not acknowledged") {
  for (const int good_syncs : {1, 2, 3}) {  // the first line's sync is one of them
    CAPTURE(good_syncs);
    const TemporaryFolder directory;
    const Armed armed;
    faults.error = EIO;
    faults.good_syncs = good_syncs;
    {
      JournalWriter writer(directory.path(), example_start(), Durability::group);
      CHECK_THROWS_AS(append_items(writer, 0, 100), FileError);
      CHECK_THROWS_AS(writer.append(example_record(0, 0, 0)), FileError);
      CHECK_THROWS_AS(writer.flush(), FileError);
      CHECK(writer.acknowledged() == 16 * (good_syncs - 1));
    }
    CHECK(faults.syncs == good_syncs + 1);  // the destructor did not try either
    CHECK(read_journals(directory.path()).records.size() == 16U * (good_syncs - 1U));
  }
}

TEST_CASE("results are synced one by one, in groups of 16, or not at all") {
  const auto syncs_for = [](Durability durability, std::int64_t items) {
    const TemporaryFolder directory;
    JournalWriter writer(directory.path(), example_start(), durability);
    const Armed armed;
    append_items(writer, 0, items);
    return std::pair(faults.syncs.load(), writer.acknowledged());
  };
  CHECK(syncs_for(Durability::item, 20) == std::pair<int, std::int64_t>(20, 20));
  CHECK(syncs_for(Durability::group, 15) == std::pair<int, std::int64_t>(0, 0));
  CHECK(syncs_for(Durability::group, 40) == std::pair<int, std::int64_t>(2, 32));
  CHECK(syncs_for(Durability::none, 40) == std::pair<int, std::int64_t>(0, 40));
}

TEST_CASE("a lone result is synced within about a second, without another call") {
  const TemporaryFolder directory;
  JournalWriter writer(directory.path(), example_start(), Durability::group);
  append_items(writer, 0, 1);
  CHECK(writer.acknowledged() == 0);
  for (int i = 0; i < 300 && writer.acknowledged() == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  CHECK(writer.acknowledged() == 1);
}

TEST_CASE("a sync that fails in the background is told by the next call") {
  const TemporaryFolder directory;
  const Armed armed;
  faults.error = EIO;
  faults.good_syncs = 1;
  JournalWriter writer(directory.path(), example_start(), Durability::group);
  append_items(writer, 0, 1);
  for (int i = 0; i < 300 && faults.syncs < 2; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  CHECK_THROWS_AS(writer.claim("next"), FileError);
}

TEST_CASE("killed at any moment, a process leaves every acknowledged result") {
  std::mt19937 random(11);
  for (int kill_number = 0; kill_number < 25; ++kill_number) {
    const TemporaryFolder directory;
    int channel[2];
    REQUIRE(pipe(channel) == 0);
    const pid_t child = fork();
    if (child == 0) {
      JournalWriter writer(directory.path(), example_start(), Durability::group);
      for (std::int64_t item = 0; item < 1'000'000; ++item) {
        append_items(writer, item, 1);
        const std::int64_t acknowledged = writer.acknowledged();
        if (::write(channel[1], &acknowledged, sizeof(acknowledged)) < 0) break;
      }
      _exit(0);
    }
    close(channel[1]);
    usleep(2000 + random() % 30000);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    std::int64_t acknowledged = 0;
    std::int64_t last = 0;
    while (read(channel[0], &last, sizeof(last)) == sizeof(last)) acknowledged = last;
    close(channel[0]);

    CAPTURE(kill_number, acknowledged);
    const JournalContents contents = read_journals(directory.path());
    CHECK(static_cast<std::int64_t>(contents.records.size()) >= acknowledged);
    CHECK(contents.bad_lines.empty());
    CHECK(contents.deaths.size() <= 1);
    for (std::size_t i = 0; i < contents.records.size(); ++i) {
      REQUIRE(contents.records[i].prompt == static_cast<std::int64_t>(i));  // no hole
    }
  }
}
