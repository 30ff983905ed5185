// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/write_outcome.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "experiments/analysis/run_comparison.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/record/added_gptscore.hpp"
#include "experiments/record/journal.hpp"
#include "experiments/record/results_file.hpp"
#include "experiments/run/exit_code.hpp"
#include "experiments/run/finalise.hpp"

namespace chunkstate {
namespace {

/// "2 requests failed, the first (ssm.variant=default, prompt 'item-1'): input: ..." on stderr.
void tell_first(const ResultsContent& content, RequestStatus status, std::int64_t count,
                const char* what) {
  const auto first = std::ranges::find(content.requests, status, &RequestRecord::status);
  if (first == content.requests.end()) return;
  fmt::print(stderr, "{} {} ({}, prompt '{}'): {}\n", counted(count, "request"), what,
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
  keep_added_gptscore(file, content);
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
