// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/run_directory.hpp"

#include <filesystem>

#include "core/errors.hpp"
#include "experiments/record/merge.hpp"
#include "experiments/run/evaluation_work.hpp"

namespace chunkstate {
namespace {

bool is_to_retry(const RequestRecord& record, const JournalContents& journals,
                 const RunOptions& options) {
  if (record.status != RequestStatus::failed) return false;
  return options.retry_failed ||
         journals.files[static_cast<std::size_t>(record.process)].start.start_utc <
             options.retry_failed_before;
}

bool is_poisonous(const WorkItem& item, const JournalContents& journals) {
  const auto deaths = journals.deaths.find(item.id);
  return deaths != journals.deaths.end() && deaths->second >= deaths_of_a_poisonous_item;
}

}  // namespace

RunDirectory open_run_directory(const std::string& directory, const ExperimentSetup& setup,
                                const RunStart& start, const std::vector<int>& shard_of,
                                const RunOptions& options) {
  std::error_code unknown;  // then the lock says what is wrong
  if (std::filesystem::exists(directory, unknown) &&
      !std::filesystem::is_directory(directory, unknown)) {
    throw UsageError(directory + ": is a file, expected a directory");
  }
  RunDirectory found;
  found.lock = std::make_unique<DirectoryLock>(directory, options.shard);
  const JournalContents journals = read_journals(directory);
  check_same_experiment(directory, journals, start);
  for (std::size_t i = 0; i < setup.plan.size(); ++i) {
    if (!shard_of.empty() && shard_of[i] != options.shard.index) {
      found.todo += '0';
      continue;
    }
    const WorkItem& item = setup.plan[i];
    const RequestRecord* record = journals.find(item.id);
    const bool finished = record != nullptr && !is_to_retry(*record, journals, options);
    found.todo += finished ? '0' : is_poisonous(item, journals) ? 'p' : '1';
    found.unevaluated = found.unevaluated || (setup.evaluation.any() && finished &&
                                              is_to_evaluate(*record, options.retry_failed));
  }
  found.lacks_manifest = journals.files.empty() ||
                         !std::filesystem::exists(std::filesystem::path(directory) / manifest_name);
  return found;
}

}  // namespace chunkstate
