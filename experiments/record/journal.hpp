// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "experiments/record/file_io.hpp"
#include "experiments/record/process_identity.hpp"
#include "experiments/record/provenance.hpp"
#include "experiments/record/request_record.hpp"

namespace chunkstate {

/// The system of record: DIR/journal/<host>-<pid>-<start>.jsonl, one append-only file per process
/// and start. Format and guarantees: experiments/record/README.md.

/// The first line of a journal: which process, which experiment.
struct RunStart {
  std::string run_id;
  ProcessIdentity process;  // filled by JournalWriter
  std::string start_utc;    // filled by JournalWriter
  std::int64_t items = 0;   // of the whole experiment, not of this rank
  std::string config_hash;
  std::string plan_hash;  // over all item ids
  std::string prompts_digest;
  std::string model_digest;  // over the digests of all points' models
  std::string yaml_resolved;
  RankProvenance provenance;
};

enum class Durability : std::uint8_t {
  item,   // append() returns after fdatasync
  group,  // fdatasync after 16 results or 1 s, whichever comes first
  none,   // never: survives the death of the process, not that of the machine
};
/// "item", "group" or "none". Throws std::invalid_argument.
Durability durability_named(const std::string& name);

/// Writes one journal. Every method hands its line to the kernel before it returns, so that it
/// survives the death of the process. acknowledged() counts the results that also survive the
/// machine.
///
/// After a failed write or sync the file is cut back to the last acknowledged line, the FileError
/// is thrown, and again by every later call: nothing is retried on a descriptor that failed (the
/// kernel may have dropped the data). In group mode the sync may run, and fail, on a thread of its
/// own: then the next call throws. One thread at a time.
class JournalWriter {
 public:
  /// Creates the file and makes it, its directories and the first line durable. Throws FileError.
  JournalWriter(const std::filesystem::path& directory, RunStart start, Durability durability);
  /// Syncs what it can; writes no end line: a journal without one is that of a process that died.
  ~JournalWriter();
  JournalWriter(const JournalWriter&) = delete;
  JournalWriter& operator=(const JournalWriter&) = delete;

  /// Before an item is executed: tells after a crash which item it was.
  void claim(const std::string& item_id);
  /// The item's outcome: a `result` or `failed` line.
  void append(const RequestRecord& record);
  /// What was computed of an item whose outcome is in a journal.
  void append(const std::string& item_id, const Evaluation& evaluation);
  /// The claimed item was given up and is to run again.
  void cancel(const std::string& item_id, const std::string& reason);
  /// Makes all lines so far durable (also with Durability::none).
  void flush();
  /// Last line, flush, close. Nothing may be called afterwards.
  void end(const std::string& reason);

  std::int64_t acknowledged() const;
  const std::filesystem::path& path() const { return path_; }

 private:
  void write_line(nlohmann::json object, bool is_result);
  void sync();
  void cut_back(int error, const char* operation);
  void throw_if_failed() const;
  void sync_when_due();
  double seconds() const;

  std::filesystem::path path_;
  FileDescriptor file_;
  Durability durability_;
  std::chrono::steady_clock::time_point begin_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::int64_t written_bytes_ = 0;
  std::int64_t acknowledged_bytes_ = 0;
  std::int64_t written_results_ = 0;
  std::int64_t acknowledged_results_ = 0;
  std::chrono::steady_clock::time_point oldest_unsynced_;
  int error_ = 0;
  const char* failed_operation_ = "";
  bool stopping_ = false;
  std::thread syncer_;  // group mode only
};

/// What one journal says. Torn, bad and unknown lines are left out of the counts.
struct JournalFile {
  std::filesystem::path path;
  bool has_start = false;
  RunStart start;
  std::string end_reason;  // of the run_end line
  bool ended = false;
  std::int64_t done = 0;
  std::int64_t failed = 0;
  std::int64_t cancelled = 0;
  std::int64_t evaluated = 0;
  double last_seconds = 0;  // of the last line, since the process' start
  /// Items (and evaluations, as evaluation_claim()) claimed and neither finished nor cancelled here
  /// -> when, seconds since the process' start.
  std::map<std::string, double> open_claims;
};

/// A line in the middle of a journal whose checksum or content is wrong. Its item runs again.
struct BadLine {
  std::filesystem::path path;
  std::int64_t line = 0;  // from 1
  std::int64_t offset = 0;
  std::string reason;
};

/// Two results of one item that differ: for greedy decoding a determinism bug.
struct Conflict {
  std::string item_id;
  std::string kept_digest;
  std::string other_digest;
  std::filesystem::path kept_path;
  std::filesystem::path other_path;
};

struct JournalContents {
  std::vector<JournalFile> files;      // by start time
  std::vector<RequestRecord> records;  // one per item; `process` is the index into files
  std::unordered_map<std::string, std::size_t> index;  // item id -> records
  std::int64_t duplicates = 0;  // results dropped because an equal one is there
  std::int64_t superseded = 0;  // failures of items that another attempt finished, or failed again
  std::int64_t torn_tails = 0;  // journals that end in an unfinished line: expected after a crash
  std::int64_t unknown_lines = 0;  // of kinds that a newer version writes
  std::vector<BadLine> bad_lines;
  std::vector<Conflict> conflicts;
  /// Claims whose process died (no outcome, no end line), per item. A process that is live on
  /// another host counts as dead.
  std::map<std::string, std::int64_t> deaths;

  /// Null if the item has no outcome yet.
  const RequestRecord* find(const std::string& item_id) const;
};

/// An item that was being executed so often when its process died is failed instead of run again.
inline constexpr std::int64_t deaths_of_a_poisonous_item = 3;

/// Reads and merges every journal of DIR/journal; an empty result if there is none. Journals may be
/// growing. Which items belong to the experiment is the caller's to know: look them up by id.
/// Throws FileError if a file cannot be read.
JournalContents read_journals(const std::filesystem::path& directory);

/// Results of another experiment where those of one are expected: exit code 3.
class OtherExperimentError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws OtherExperimentError that names the keys (or prompts, models) in which a journal's run
/// differs from `mine`.
void check_same_experiment(const std::filesystem::path& directory, const JournalContents& contents,
                           const RunStart& mine);

/// What two experiments differ in, as one text; empty if they are the same. A plan_hash that is
/// empty is not compared.
std::string experiment_differences(const RunStart& there, const RunStart& here);

/// "ssm.variant: 'default' there, 'independent' here", one per differing key of two YAML texts.
std::vector<std::string> yaml_differences(const std::string& there, const std::string& here);

}  // namespace chunkstate
