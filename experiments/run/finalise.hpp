// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/record/journal.hpp"
#include "experiments/record/provenance.hpp"
#include "experiments/record/results_file.hpp"
#include "experiments/run/experiment_setup.hpp"

namespace chunkstate {

/// How many items of a plan have an outcome in the journals.
struct Outcome {
  std::int64_t done = 0;
  std::int64_t failed = 0;
  std::int64_t skipped = 0;
  std::int64_t missing = 0;
  // of those done and of repeat 0
  std::int64_t evaluated = 0;
  std::int64_t unevaluated = 0;
  std::int64_t evaluations_failed = 0;  // among the evaluated
};
Outcome count_outcomes(const std::vector<WorkItem>& plan, const JournalContents& journals);

/// What a reader of the results should know of the journals: damaged lines, conflicts.
std::vector<std::string> journal_notes(const JournalContents& journals);

/// What belongs into the results file: the plan's items, whose records are moved out of the
/// journals, and facts about the models. `setup` must outlive the result. Builds models through
/// `engines`.
ResultsContent gather_results(const ExperimentSetup& setup, EnginePool& engines,
                              JournalContents& journals, const RunProvenance& provenance);

/// The table of results per sweep point that `run` ends with.
std::string summary_table(const ResultsContent& content);

}  // namespace chunkstate
