// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/write_outcome.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>

#include "experiments/analysis/run_comparison.hpp"
#include "experiments/record/journal.hpp"
#include "experiments/record/result_digest.hpp"
#include "experiments/record/results_file.hpp"
#include "experiments/run/exit_code.hpp"
#include "experiments/run/finalise.hpp"

namespace chunkstate {
namespace {

/// GPTScores that `chunkstate gptscore` added to the file that is there are in no journal: they are
/// taken over, if all of them are of the outputs that are written now.
void keep_gptscore(const std::filesystem::path& file, ResultsContent& content) {
  if (content.evaluation.judges() || !std::filesystem::exists(file)) return;
  StoredResults before;
  try {
    before = read_results(file);
  } catch (const std::exception&) {
    return;  // damaged or unreadable: it is being written anew
  }
  if (!before.evaluation.judges()) return;
  std::map<std::string, const RequestRecord*> old;
  for (const RequestRecord& request : before.requests) old[request.item_id] = &request;
  std::vector<std::shared_ptr<const Evaluation>> kept;
  for (const RequestRecord& request : content.requests) {
    if (!request.is_to_evaluate()) continue;
    const auto found = old.find(request.item_id);
    if (found == old.end() || !found->second->evaluation ||
        result_digest(*found->second) != result_digest(request)) {
      fmt::print(stderr,
                 "{}: had GPTScores of other outputs, which are left out: run `chunkstate "
                 "gptscore` again\n",
                 file.string());
      return;
    }
    Evaluation evaluation = request.evaluation ? *request.evaluation : Evaluation{};
    evaluation.gptscore = found->second->evaluation->gptscore;
    kept.push_back(std::make_shared<const Evaluation>(std::move(evaluation)));
  }
  auto next = kept.begin();
  for (RequestRecord& request : content.requests) {
    if (request.is_to_evaluate()) request.evaluation = *next++;
  }
  content.evaluation.judge = before.evaluation.judge;
  content.evaluation.judge_digest = before.evaluation.judge_digest;
  content.evaluation.instructions = before.evaluation.instructions;
}

/// "2 requests failed, the first (ssm.variant=default, prompt 'item-1'): input: ..." on stderr.
void tell_first(const ResultsContent& content, RequestStatus status, std::int64_t count,
                const char* what) {
  const auto first = std::ranges::find(content.requests, status, &RequestRecord::status);
  if (first == content.requests.end()) return;
  fmt::print(stderr, "{} request{} {} ({}, prompt '{}'): {}\n", count, count == 1 ? "" : "s", what,
             point_name(content.spec.points[static_cast<std::size_t>(first->point)]),
             content.prompts.prompts[static_cast<std::size_t>(first->prompt)].id, first->error);
}

}  // namespace

int write_outcome(const Job& job, const std::vector<std::size_t>& items,
                  const RunProvenance& provenance, int code) {
  const Shard& shard = job.options.shard;
  JournalContents journals = read_journals(job.directory);
  std::vector<WorkItem> mine;
  for (const std::size_t item : items) mine.push_back(job.setup.plan[item]);
  const Outcome outcome = count_outcomes(mine, journals);
  const std::string tally =
      fmt::format("{}{}: {} of {} items done, {} failed", job.directory,
                  shard.whole() ? "" : ", shard " + to_string(shard), outcome.done, mine.size(),
                  outcome.failed) +
      (outcome.skipped > 0 ? fmt::format(", {} skipped", outcome.skipped) : "");
  if (outcome.missing > 0) {
    fmt::print(stderr, "{}, {} left; run again to resume\n", tally, outcome.missing);
    return code == exit_ok ? exit_stopped_early : code;
  }
  if (job.setup.evaluation.any() && outcome.unevaluated > 0) {
    fmt::print(stderr, "{}, {} of {} outputs evaluated; run again to resume\n", tally,
               outcome.evaluated, outcome.evaluated + outcome.unevaluated);
    return code == exit_ok ? exit_stopped_early : code;
  }
  const bool failures = outcome.failed > 0 || outcome.evaluations_failed > 0;
  code = failures ? exit_items_failed : exit_ok;
  if (!shard.whole()) {
    if (!job.options.quiet) fmt::print("{}\n", tally);
    return code;
  }
  ResultsContent content = gather_results(job.setup, job.engines, journals, provenance);
  const std::string file = job.directory + "/results.h5";
  keep_gptscore(file, content);
  const std::string digest = write_results(file, content);
  if (job.options.quiet) return code;
  for (const std::string& line : journal_notes(journals)) fmt::print(stderr, "{}\n", line);
  if (outcome.evaluations_failed > 0) {
    fmt::print(stderr, "{} evaluations failed: /accuracy/error says why\n",
               outcome.evaluations_failed);
  }
  tell_first(content, RequestStatus::failed, outcome.failed, "failed, the first");
  tell_first(content, RequestStatus::skipped, outcome.skipped,
             "skipped for lack of memory, the first");
  fmt::print("{}\nresults: {}\ndigest:  {}\n", summary_table(content), file, digest);
  return code;
}

}  // namespace chunkstate
