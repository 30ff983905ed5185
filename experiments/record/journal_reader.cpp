// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <future>
#include <optional>
#include <thread>

#include "core/errors.hpp"
#include "experiments/record/journal.hpp"
#include "experiments/record/journal_line.hpp"
#include "experiments/record/result_digest.hpp"
#include "experiments/spec/yaml_tree.hpp"

namespace chunkstate {
namespace {

constexpr std::size_t block_bytes = std::size_t{1} << 20;
// A million tokens with times and log-probabilities take about 60 MB.
constexpr std::size_t longest_line = std::size_t{1} << 30;

/// Calls `visit(line, offset)` for every line that ends in a newline, with LineDecoder::padding
/// bytes behind it; returns whether something follows the last one.
bool for_each_line(const std::filesystem::path& path,
                   const std::function<void(std::string_view, std::int64_t)>& visit) {
  const FileDescriptor file(path, O_RDONLY | O_NONBLOCK);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) throw FileError(errno, path, "fstat");
  if (!S_ISREG(status.st_mode)) throw FileError(EINVAL, path, "not a regular file");
  std::vector<char> buffer;
  std::size_t known = 0;    // bytes of it, without a newline among them
  std::int64_t offset = 0;  // of the buffer in the file
  while (true) {
    if (known > longest_line) throw FileError(EFBIG, path, "a line of more than 1 GiB");
    if (buffer.size() < known + block_bytes + LineDecoder::padding) {
      buffer.resize(std::max(2 * buffer.size(), known + block_bytes + LineDecoder::padding));
    }
    const ssize_t got = ::read(file.get(), buffer.data() + known, block_bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw FileError(errno, path, "read");
    if (got == 0) return known > 0;
    const std::string_view all(buffer.data(), known + static_cast<std::size_t>(got));
    std::size_t begin = 0;
    for (std::size_t end = all.find('\n', known); end != std::string_view::npos;
         end = all.find('\n', begin)) {
      visit(all.substr(begin, end - begin), offset + static_cast<std::int64_t>(begin));
      begin = end + 1;
    }
    known = all.size() - begin;
    std::copy(all.begin() + static_cast<std::ptrdiff_t>(begin), all.end(), buffer.begin());
    offset += static_cast<std::int64_t>(begin);
  }
}

/// What one file says.
struct OneJournal {
  JournalFile file;
  std::vector<RequestRecord> records;
  std::vector<std::pair<std::string, std::shared_ptr<const Evaluation>>> evaluations;
  std::vector<BadLine> bad_lines;
  std::int64_t unknown_lines = 0;
  bool torn = false;

  void accept(JournalEvent event) {
    using Kind = JournalEvent::Kind;
    switch (event.kind) {
      case Kind::run_start:
        file.start = std::move(*event.start);
        file.has_start = true;
        break;
      case Kind::claim:
        file.open_claims[event.item] = event.seconds;
        break;
      case Kind::cancelled:
        file.open_claims.erase(event.item);
        ++file.cancelled;
        break;
      case Kind::outcome:
        file.open_claims.erase(event.record->item_id);
        ++(event.record->status == RequestStatus::failed ? file.failed : file.done);
        records.push_back(std::move(*event.record));
        break;
      case Kind::evaluation:
        file.open_claims.erase(evaluation_claim(event.item));
        ++file.evaluated;
        evaluations.emplace_back(std::move(event.item), std::move(event.evaluation));
        break;
      case Kind::run_end:
        file.ended = true;
        file.end_reason = std::move(event.reason);
        break;
      case Kind::unknown:
        ++unknown_lines;
    }
    file.last_seconds = event.seconds;
  }
};

OneJournal read_journal(const std::filesystem::path& path) {
  OneJournal journal;
  journal.file.path = path;
  LineDecoder decoder;
  std::vector<BadLine> bad_at_end;
  std::int64_t number = 0;
  const bool unfinished = for_each_line(path, [&](std::string_view line, std::int64_t offset) {
    ++number;
    try {
      journal.accept(decoder.decode(line));
    } catch (const std::invalid_argument& error) {
      bad_at_end.push_back({path, number, offset, error.what()});
      return;
    }
    // A good line follows: so the bad ones before it are damage, not the torn end of a crash.
    journal.bad_lines.insert(journal.bad_lines.end(), bad_at_end.begin(), bad_at_end.end());
    bad_at_end.clear();
  });
  journal.torn = unfinished || !bad_at_end.empty();
  return journal;
}

/// Merges the journals, one after the other.
class Merge {
 public:
  void add(OneJournal journal) {
    contents_.files.push_back(std::move(journal.file));
    for (RequestRecord& record : journal.records) merge(std::move(record));
    for (const auto& [item, evaluation] : journal.evaluations) merge(item, evaluation);
    contents_.bad_lines.insert(contents_.bad_lines.end(), journal.bad_lines.begin(),
                               journal.bad_lines.end());
    contents_.unknown_lines += journal.unknown_lines;
    if (journal.torn) ++contents_.torn_tails;
    const JournalFile& file = contents_.files.back();
    if (file.ended || liveness(file.start.process) == Liveness::alive) return;
    for (const auto& claim : file.open_claims) ++contents_.deaths[claim.first];
  }

  JournalContents take() {
    for (auto& [item, found] : evaluations_) {
      const auto place = contents_.index.find(item);
      if (place == contents_.index.end()) continue;
      RequestRecord& record = contents_.records[place->second];
      if (record.status == RequestStatus::done) record.evaluation = std::move(found.evaluation);
    }
    return std::move(contents_);
  }

 private:
  void merge(RequestRecord record) {
    record.process = static_cast<std::int64_t>(contents_.files.size()) - 1;
    const auto [place, is_new] =
        contents_.index.try_emplace(record.item_id, contents_.records.size());
    if (is_new) {
      contents_.records.push_back(std::move(record));
      return;
    }
    RequestRecord& kept = contents_.records[place->second];
    const bool kept_done = kept.status == RequestStatus::done;
    const bool done = record.status == RequestStatus::done;
    if (kept_done && done) {
      const std::string kept_digest = result_digest(kept);
      const std::string digest = result_digest(record);
      if (kept_digest == digest) {
        ++contents_.duplicates;
      } else {
        contents_.conflicts.push_back(
            {record.item_id, kept_digest, digest, path_of(kept), path_of(record)});
      }
      return;
    }
    ++contents_.superseded;
    // A success replaces a failure; of two failures the later attempt's is kept.
    if (!kept_done) kept = std::move(record);
  }

  void merge(const std::string& item, const std::shared_ptr<const Evaluation>& evaluation) {
    const std::filesystem::path& path = contents_.files.back().path;
    FoundEvaluation& kept = evaluations_.try_emplace(item, FoundEvaluation{{}, path}).first->second;
    const auto before = kept.evaluation;
    if (!keep_one(kept.evaluation, evaluation)) {
      contents_.conflicts.push_back({evaluation_claim(item), evaluation_digest(*before),
                                     evaluation_digest(*evaluation), kept.path, path});
    }
    if (kept.evaluation == evaluation) kept.path = path;
  }

  const std::filesystem::path& path_of(const RequestRecord& record) const {
    return contents_.files[static_cast<std::size_t>(record.process)].path;
  }

  struct FoundEvaluation {
    std::shared_ptr<const Evaluation> evaluation;
    std::filesystem::path path;
  };

  JournalContents contents_;
  std::unordered_map<std::string, FoundEvaluation> evaluations_;
};

/// The part of "<host>-<pid>-<start>.jsonl" that orders journals by time: host names may hold
/// dashes.
std::string start_of(const std::filesystem::path& path) {
  const std::string stem = path.stem();
  return stem.substr(stem.rfind('-') + 1);
}

std::string text_of(const YamlNode& node) {
  std::string text;
  for (const YamlNode& item : node.items) text += (text.empty() ? "" : ", ") + text_of(item);
  for (const YamlNode::Entry& entry : node.entries) {
    text += (text.empty() ? "" : ", ") + entry.key + ": " + text_of(entry.value);
  }
  return node.kind == YamlNode::Kind::list  ? "[" + text + "]"
         : node.kind == YamlNode::Kind::map ? "{" + text + "}"
                                            : node.text;
}

void flatten(const YamlNode& node, const std::string& path,
             std::map<std::string, std::string>& values) {
  if (node.kind != YamlNode::Kind::map) {
    values[path] = text_of(node);
    return;
  }
  for (const YamlNode::Entry& entry : node.entries) {
    flatten(entry.value, path.empty() ? entry.key : path + "." + entry.key, values);
  }
}

/// By the strict reader: a journal may hold anything, and aliases of aliases would fill the memory.
std::optional<std::map<std::string, std::string>> flatten(const std::string& yaml) {
  try {
    std::map<std::string, std::string> values;
    flatten(parse_yaml(yaml, "journal"), "", values);
    return values;
  } catch (const UsageError&) {
    return std::nullopt;
  }
}

}  // namespace

const RequestRecord* JournalContents::find(const std::string& item_id) const {
  const auto found = index.find(item_id);
  return found == index.end() ? nullptr : &records[found->second];
}

JournalContents read_journals(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> paths;
  std::error_code missing;
  for (const auto& entry : std::filesystem::directory_iterator(directory / "journal", missing)) {
    if (entry.path().extension() == ".jsonl") paths.push_back(entry.path());
  }
  if (missing && missing != std::errc::no_such_file_or_directory) {
    throw FileError(missing.value(), directory / "journal", "open");
  }
  std::sort(paths.begin(), paths.end(), [](const auto& a, const auto& b) {
    return std::pair(start_of(a), a) < std::pair(start_of(b), b);
  });
  // One file per thread; where the launcher bound this process to a core, one after the other.
  const std::size_t together = std::max(1U, std::thread::hardware_concurrency());
  Merge merge;
  for (std::size_t first = 0; first < paths.size(); first += together) {
    std::vector<std::future<OneJournal>> batch;
    for (std::size_t i = first; i < std::min(first + together, paths.size()); ++i) {
      batch.push_back(std::async(read_journal, paths[i]));
    }
    for (auto& journal : batch) merge.add(journal.get());
  }
  return merge.take();
}

std::vector<std::string> yaml_differences(const std::string& there, const std::string& here) {
  const auto values_there = flatten(there);
  const auto values_here = flatten(here);
  if (!values_there || !values_here) return {"the resolved experiment"};
  std::map<std::string, std::pair<std::string, std::string>> both;
  for (const auto& [path, value] : *values_there) both[path] = {value, "(absent)"};
  for (const auto& [path, value] : *values_here) {
    both.try_emplace(path, "(absent)", "").first->second.second = value;
  }
  std::vector<std::string> differences;
  for (const auto& [path, values] : both) {
    if (values.first == values.second) continue;
    differences.push_back(path + ": " + values.first + " there, " + values.second + " here");
  }
  return differences;
}

std::string experiment_differences(const RunStart& there, const RunStart& here) {
  constexpr std::size_t shown = 8;
  const bool same_plan =
      there.plan_hash == here.plan_hash || there.plan_hash.empty() || here.plan_hash.empty();
  std::vector<std::string> differences;
  if (there.config_hash != here.config_hash) {
    differences = yaml_differences(there.yaml_resolved, here.yaml_resolved);
  }
  if (there.prompts_digest != here.prompts_digest) {
    differences.push_back("the prompts: " + there.prompts_digest + " there, " +
                          here.prompts_digest + " here");
  }
  if (there.model_digest != here.model_digest) {
    differences.push_back("the model's files: " + there.model_digest + " there, " +
                          here.model_digest + " here");
  }
  if (differences.empty() && (there.config_hash != here.config_hash || !same_plan)) {
    differences.push_back("the work plan (written by another version)");
  }
  std::string text;
  for (std::size_t i = 0; i < std::min(shown, differences.size()); ++i) {
    text += (i == 0 ? "" : "; ") + differences[i];
  }
  if (differences.size() > shown) {
    text += "; and " + std::to_string(differences.size() - shown) + " more";
  }
  return text;
}

void check_same_experiment(const std::filesystem::path& directory, const JournalContents& contents,
                           const RunStart& mine) {
  for (const JournalFile& file : contents.files) {
    if (!file.has_start) continue;  // cannot say; its items are known by their ids
    const std::string differences = experiment_differences(file.start, mine);
    if (differences.empty()) continue;
    throw OtherExperimentError(directory.string() + " holds the results of another experiment (" +
                               file.path.filename().string() + "): " + differences +
                               "; another folder (--out) keeps both");
  }
}

}  // namespace chunkstate
