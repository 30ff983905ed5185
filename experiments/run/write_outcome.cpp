// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/write_outcome.hpp"

#include <fmt/format.h>

#include "experiments/record/journal.hpp"
#include "experiments/record/results_file.hpp"
#include "experiments/run/exit_code.hpp"
#include "experiments/run/finalise.hpp"

namespace chunkstate {

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
  const ResultsContent content = gather_results(job.setup, job.engines, journals, provenance);
  const std::string file = job.directory + "/results.h5";
  const std::string digest = write_results(file, content);
  if (job.options.quiet) return code;
  for (const std::string& line : journal_notes(journals)) fmt::print(stderr, "{}\n", line);
  if (outcome.evaluations_failed > 0) {
    fmt::print(stderr, "{} evaluations failed: /accuracy/error says why\n",
               outcome.evaluations_failed);
  }
  if (outcome.skipped > 0) {
    fmt::print(stderr, "{} requests skipped for lack of memory: /requests/error says how much\n",
               outcome.skipped);
  }
  fmt::print("{}\nresults: {}\ndigest:  {}\n", summary_table(content), file, digest);
  return code;
}

}  // namespace chunkstate
