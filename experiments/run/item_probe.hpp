// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "experiments/plan/work_plan.hpp"
#include "experiments/record/request_record.hpp"
#include "experiments/run/experiment_setup.hpp"
#include "experiments/run/run_experiment.hpp"

namespace chunkstate {

/// Runs one item in a process of its own, unrecorded, and tells how that ended: empty if it ended
/// by itself, otherwise "signal 11" or "exit code 70". An item during which several processes died
/// is poison only if it also kills this one: what died may as well have been killed from outside.
std::string probe_item(const RunOptions& options, const std::string& directory,
                       const std::string& item_id);

/// In that process: runs an item of the plan, or with its evaluation_claim() the evaluation of its
/// output in `directory`. Throws UsageError if there is no such item.
void run_probed_item(const std::string& probe, const ExperimentSetup& setup, EnginePool& engines,
                     const std::string& directory, double run_start);

/// The failed record of an item that is poison; none if it is not. `rank`: of this process.
std::optional<RequestRecord> poison_record(const RunOptions& options, const std::string& directory,
                                           const WorkItem& item, int rank);

}  // namespace chunkstate
