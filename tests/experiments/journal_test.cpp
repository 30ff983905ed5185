// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/journal.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "experiments/record/journal_line.hpp"
#include "experiments/record/result_digest.hpp"
#include "tests/catch.hpp"
#include "tests/experiments/example_records.hpp"
#include "tests/temporary_folder.hpp"

using namespace chunkstate;

namespace {

/// Bit for bit: NaN equals NaN, 0 does not equal -0.
bool same_bits(double a, double b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

void check_equal(const RequestRecord& a, const RequestRecord& b) {
  CHECK(result_digest(a) == result_digest(b));
  CHECK(a.item_id == b.item_id);
  CHECK(a.point == b.point);
  CHECK(a.prompt == b.prompt);
  CHECK(a.repeat == b.repeat);
  CHECK(a.error == b.error);
  CHECK(a.rank == b.rank);
  CHECK(a.text == b.text);
  CHECK(a.token_ids == b.token_ids);
  for (const auto field :
       {&RequestRecord::t_start, &RequestRecord::ttft, &RequestRecord::e2e, &RequestRecord::flops,
        &RequestRecord::bytes_moved, &RequestRecord::peak_memory_bytes, &RequestRecord::cpu_percent,
        &RequestRecord::gpu_percent, &RequestRecord::io_wait, &RequestRecord::energy,
        &RequestRecord::launches, &RequestRecord::batch_mean, &RequestRecord::warmup_seconds}) {
    CHECK((same_bits(a.*field, b.*field) || (std::isnan(a.*field) && std::isnan(b.*field))));
  }
  REQUIRE(a.t_emit.size() == b.t_emit.size());
  for (std::size_t i = 0; i < a.t_emit.size(); ++i) CHECK(same_bits(a.t_emit[i], b.t_emit[i]));
}

/// A journal with a claim and a result for each of `items` prompts, as bytes.
std::filesystem::path only_journal(const std::filesystem::path& directory) {
  return std::filesystem::directory_iterator(directory / "journal")->path();
}

/// Runs `body` in a process that has ended when this returns.
template <class Body>
void in_process(const Body& body) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(0);
  }
  waitpid(child, nullptr, 0);
}

std::string journal_bytes(std::int64_t items, const std::filesystem::path& directory) {
  in_process([&] {
    JournalWriter writer(directory, example_start(), Durability::none);
    for (std::int64_t item = 0; item < items; ++item) {
      writer.claim(example_record(0, item, 0).item_id);
      writer.append(example_record(0, item, 0));
    }
    writer.end("done");
  });
  return read_bytes(only_journal(directory));
}

}  // namespace

TEST_CASE("what is appended is read back bit for bit") {
  const TemporaryFolder directory;
  std::vector<RequestRecord> records{example_record(0, 0, 0), example_record(1, 2, 3, 1),
                                     failed_record(0, 1, 0, "InputError: prompt too long")};
  records[0].ttft = 0x1.fffffffffffffp-1022;
  records[0].e2e = -0.0;
  records[0].energy = std::numeric_limits<double>::infinity();
  records[0].io_wait = 0.1 + 0.2;
  records[0].logprobs[1] = -std::numeric_limits<float>::infinity();
  records[0].logprobs[2] = std::numeric_limits<float>::quiet_NaN();
  records[0].logprobs[3] = std::nextafter(-1.0F, 0.0F);
  records[0].token_ids[0] = std::numeric_limits<std::int32_t>::max();
  {
    JournalWriter writer(directory.path(), example_start(), Durability::item);
    for (const auto& record : records) {
      writer.claim(record.item_id);
      writer.append(record);
    }
    CHECK(writer.acknowledged() == 3);
    writer.cancel("feed", "SIGTERM");
    writer.end("done");
  }
  const JournalContents contents = read_journals(directory.path());
  REQUIRE(contents.records.size() == 3);
  for (const RequestRecord& record : records) {
    const RequestRecord* found = contents.find(record.item_id);
    REQUIRE(found != nullptr);
    check_equal(*found, record);
    CHECK(found->process == 0);
  }
  CHECK(contents.find("other") == nullptr);
  REQUIRE(contents.files.size() == 1);
  const JournalFile& file = contents.files[0];
  CHECK(file.has_start);
  CHECK(file.start.config_hash == "c0");
  CHECK(file.start.yaml_resolved == example_start().yaml_resolved);
  CHECK(file.start.process == this_process());
  CHECK(file.start.provenance.host == "node1");
  CHECK(file.ended);
  CHECK(file.end_reason == "done");
  CHECK(file.done == 2);
  CHECK(file.failed == 1);
  CHECK(file.cancelled == 1);
  CHECK(file.open_claims.empty());
  CHECK(contents.deaths.empty());
  CHECK(contents.torn_tails == 0);
  CHECK(contents.bad_lines.empty());
}

TEST_CASE("text that is no UTF-8 is stored in its canonical form") {
  const TemporaryFolder directory;
  RequestRecord record = example_record(0, 0, 0);
  record.text = std::string("half a character \xE2\x82 and\0NUL", 28);
  {
    JournalWriter writer(directory.path(), example_start(), Durability::none);
    writer.append(record);
  }
  const JournalContents contents = read_journals(directory.path());
  REQUIRE(contents.records.size() == 1);
  CHECK(contents.records[0].text.find("\xEF\xBF\xBD") != std::string::npos);
  CHECK(result_digest(contents.records[0]) == result_digest(record));
}

TEST_CASE("a directory without journals is empty, not an error") {
  const TemporaryFolder directory;
  CHECK(read_journals(directory.path()).files.empty());
  CHECK(read_journals(directory.path() / "missing").records.empty());
}

TEST_CASE("a journal cut at any byte loses the cut line only") {
  const TemporaryFolder directory;
  constexpr std::int64_t items = 3;
  const std::string bytes = journal_bytes(items, directory.path());
  const auto path = only_journal(directory.path());
  for (std::size_t length = 0; length <= bytes.size(); ++length) {
    CAPTURE(length);
    write_bytes(path, bytes.substr(0, length));
    const JournalContents contents = read_journals(directory.path());
    const std::string kept = bytes.substr(0, length);
    std::int64_t results = 0;
    std::int64_t claims = 0;
    for (std::size_t begin = 0, end = 0; (end = kept.find('\n', begin)) != std::string::npos;
         begin = end + 1) {
      const std::string line = kept.substr(begin, end - begin);
      results += line.find("\"kind\":\"result\"") != std::string::npos ? 1 : 0;
      claims += line.find("\"kind\":\"claim\"") != std::string::npos ? 1 : 0;
    }
    const bool torn = !kept.empty() && kept.back() != '\n';
    REQUIRE(static_cast<std::int64_t>(contents.records.size()) == results);
    REQUIRE(contents.torn_tails == (torn ? 1 : 0));
    REQUIRE(contents.bad_lines.empty());
    // The item that was claimed when the process died, if it died then.
    REQUIRE(static_cast<std::int64_t>(contents.deaths.size()) == claims - results);
  }
}

TEST_CASE("a flipped bit costs one line, is reported, and its item runs again") {
  const TemporaryFolder directory;
  const std::string bytes = journal_bytes(4, directory.path());
  const auto path = only_journal(directory.path());
  std::mt19937 random(5);
  for (std::size_t at = 0; at < bytes.size(); at += 1 + random() % 5) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (random() % 8)));
    CAPTURE(at, int(bytes[at]), int(damaged[at]));
    write_bytes(path, damaged);
    const JournalContents contents = read_journals(directory.path());
    // A newline that appears or vanishes makes two lines of one, or one of two.
    const bool newline = bytes[at] == '\n' || damaged[at] == '\n';
    REQUIRE(contents.records.size() >= (newline ? 2U : 3U));
    const std::size_t lines =
        contents.bad_lines.size() + static_cast<std::size_t>(contents.torn_tails);
    REQUIRE(lines >= 1);
    REQUIRE(lines <= 2);
    for (const BadLine& line : contents.bad_lines) {
      REQUIRE(line.path == path);
      REQUIRE(line.offset <= static_cast<std::int64_t>(at));
      REQUIRE_FALSE(line.reason.empty());
    }
    for (const RequestRecord& record : contents.records) {
      REQUIRE(result_digest(record) == result_digest(example_record(0, record.prompt, 0)));
    }
  }
}

TEST_CASE("equal results of one item count once, different ones are a conflict with both digests") {
  const TemporaryFolder directory;
  const RequestRecord record = example_record(0, 0, 0);
  RequestRecord again = record;
  again.ttft *= 2;  // another run of it: other times, same result
  again.rank = 5;
  RequestRecord different = record;
  different.token_ids[2] += 1;
  for (const RequestRecord& one : {record, again, different}) {
    JournalWriter writer(directory.path(), example_start(), Durability::none);
    writer.append(one);
    writer.end("done");
  }
  const JournalContents contents = read_journals(directory.path());
  REQUIRE(contents.files.size() == 3);
  REQUIRE(contents.records.size() == 1);
  CHECK(contents.records[0].ttft == record.ttft);  // the first by start time
  CHECK(contents.duplicates == 1);
  REQUIRE(contents.conflicts.size() == 1);
  CHECK(contents.conflicts[0].item_id == record.item_id);
  CHECK(contents.conflicts[0].kept_digest == result_digest(record));
  CHECK(contents.conflicts[0].other_digest == result_digest(different));
  CHECK(contents.conflicts[0].other_path == contents.files[2].path);
}

TEST_CASE("a success replaces a failure in any order, of two failures the later one stays") {
  const RequestRecord success = example_record(0, 0, 0);
  const RequestRecord failure = failed_record(0, 0, 0, "bad_alloc: first");
  const RequestRecord later = failed_record(0, 0, 0, "bad_alloc: second");
  const auto merged = [](const std::vector<RequestRecord>& attempts) {
    const TemporaryFolder directory;
    for (const RequestRecord& attempt : attempts) {
      JournalWriter writer(directory.path(), example_start(), Durability::none);
      writer.append(attempt);
    }
    const JournalContents contents = read_journals(directory.path());
    CHECK(contents.conflicts.empty());
    CHECK(contents.superseded == 1);
    return contents.records.at(0);
  };
  CHECK(merged({success, failure}).status == RequestStatus::done);
  CHECK(merged({failure, success}).status == RequestStatus::done);
  CHECK(merged({failure, later}).error == "bad_alloc: second");
}

TEST_CASE("claims of dead processes are counted per item") {
  const TemporaryFolder directory;
  const auto leave_claims = [&](bool in_order) {
    JournalWriter writer(directory.path(), example_start(), Durability::none);
    writer.claim("a");
    writer.append(example_record(0, getpid(), 0));
    writer.claim("b");
    writer.cancel("b", "SIGTERM");
    if (in_order) {
      writer.claim("c");
      writer.end("stopped");
    }
  };
  for (const bool in_order : {false, false, true}) {
    in_process([&] { leave_claims(in_order); });
  }
  leave_claims(false);  // this process lives: another task of the array at work
  const JournalContents contents = read_journals(directory.path());
  // The third process ended in good order, so its open claims killed nobody.
  CHECK(contents.deaths == std::map<std::string, std::int64_t>{{"a", 2}});
}

TEST_CASE("lines of kinds a newer version writes are passed over") {
  const TemporaryFolder directory;
  const std::string bytes = journal_bytes(2, directory.path());
  const auto path = only_journal(directory.path());
  const std::size_t second = bytes.find('\n') + 1;
  write_bytes(path, bytes.substr(0, second) +
                        encode_line({{"kind", "telemetry"}, {"t", 1.5}, {"watts", 3}}) +
                        bytes.substr(second));
  const JournalContents contents = read_journals(directory.path());
  CHECK(contents.unknown_lines == 1);
  CHECK(contents.records.size() == 2);
  CHECK(contents.bad_lines.empty());
}

TEST_CASE("lines with a good checksum and bad content are quarantined") {
  const TemporaryFolder directory;
  const std::string bytes = journal_bytes(1, directory.path());
  const auto path = only_journal(directory.path());
  const std::size_t second = bytes.find('\n') + 1;
  nlohmann::json wide = json_of(example_record(0, 9, 0));
  wide["t"] = 1;
  wide["token_ids"] = {4294967296};
  nlohmann::json no_time = {{"kind", "claim"}, {"item", "x"}};
  nlohmann::json wrong_type = {{"kind", "claim"}, {"t", 1.0}, {"item", 7}};
  write_bytes(path, bytes.substr(0, second) + encode_line(wide) + encode_line(no_time) +
                        encode_line(wrong_type) + encode_line(nlohmann::json::array()) +
                        bytes.substr(second));
  const JournalContents contents = read_journals(directory.path());
  CHECK(contents.bad_lines.size() == 4);
  CHECK(contents.bad_lines.at(0).line == 2);
  CHECK(contents.records.size() == 1);
}

TEST_CASE("a journal whose first line is damaged still gives its results") {
  const TemporaryFolder directory;
  std::string bytes = journal_bytes(2, directory.path());
  bytes[20] = static_cast<char>(bytes[20] ^ 1);
  write_bytes(only_journal(directory.path()), bytes);
  const JournalContents contents = read_journals(directory.path());
  CHECK(contents.records.size() == 2);
  CHECK(contents.bad_lines.size() == 1);
  CHECK_FALSE(contents.files.at(0).has_start);
  CHECK_NOTHROW(check_same_experiment(directory.path(), contents, example_start()));
}

TEST_CASE("something else than a regular file among the journals is an error, not a hang") {
  const TemporaryFolder directory;
  std::filesystem::create_directories(directory.path() / "journal/x-1-2.jsonl");
  CHECK_THROWS_AS(read_journals(directory.path()), FileError);
}

TEST_CASE("another experiment's journals are refused with the differing keys") {
  const TemporaryFolder directory;
  { const JournalWriter writer(directory.path(), example_start(), Durability::none); }
  const JournalContents contents = read_journals(directory.path());
  CHECK_NOTHROW(check_same_experiment(directory.path(), contents, example_start()));

  const auto message = [&](const RunStart& mine) -> std::string {
    try {
      check_same_experiment(directory.path(), contents, mine);
    } catch (const OtherExperimentError& error) {
      return error.what();
    }
    return "";
  };
  RunStart mine = example_start();
  mine.config_hash = "c1";
  mine.yaml_resolved = "ssm:\n  variant: independent\n  chunk_size: 64\nname: x\nextra: [1, 2]\n";
  CHECK(message(mine).find("ssm.variant: default there, independent here") != std::string::npos);
  CHECK(message(mine).find("extra: (absent) there, [1, 2] here") != std::string::npos);
  CHECK(message(mine).find("chunk_size") == std::string::npos);

  mine = example_start();
  mine.plan_hash = "f1";
  mine.prompts_digest = "ab";
  CHECK(message(mine).find("the prompts: aa there, ab here") != std::string::npos);
  mine.prompts_digest = "aa";
  CHECK(message(mine).find("work plan") != std::string::npos);
}

TEST_CASE("a journal whose experiment is a bomb of aliases is refused at once") {
  const TemporaryFolder directory;
  RunStart bomb = example_start();
  bomb.yaml_resolved = "a0: &a0 {b: x, c: y}\n";
  for (int i = 1; i < 40; ++i) {
    const std::string inner = "*a" + std::to_string(i - 1);
    const std::string name = "a" + std::to_string(i);
    bomb.yaml_resolved += name + ": &" + name + " {b: " + inner + ", c: " + inner + "}\n";
  }
  { const JournalWriter writer(directory.path(), bomb, Durability::none); }
  RunStart mine = example_start();
  mine.config_hash = "c1";
  CHECK_THROWS_AS(check_same_experiment(directory.path(), read_journals(directory.path()), mine),
                  OtherExperimentError);
}
