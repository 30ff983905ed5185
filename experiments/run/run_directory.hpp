// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "experiments/record/directory_lock.hpp"
#include "experiments/record/journal.hpp"
#include "experiments/run/experiment_setup.hpp"
#include "experiments/run/run_experiment.hpp"

namespace chunkstate {

/// What a run finds in its results directory.
struct RunDirectory {
  std::unique_ptr<DirectoryLock> lock;
  std::string todo;          // per item of the plan: '1' to run, 'p' to probe first, '0' not to run
  bool unevaluated = false;  // some output of an earlier start is still to be evaluated
  bool lacks_manifest = false;  // this is the first start
};

/// Locks the directory and compares its journals with the plan. `start`: who the run is; `shard_of`
/// per item, empty if all are this run's. Throws UsageError, LockedError, OtherExperimentError,
/// FileError.
RunDirectory open_run_directory(const std::string& directory, const ExperimentSetup& setup,
                                const RunStart& start, const std::vector<int>& shard_of,
                                const RunOptions& options);

}  // namespace chunkstate
