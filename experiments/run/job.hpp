// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "experiments/run/experiment_setup.hpp"
#include "experiments/run/run_experiment.hpp"
#include "parallel/communicator.hpp"

namespace chunkstate {

/// What the parts of a run share: one job's run of an experiment.
struct Job {
  Communicator& world;
  const ExperimentSetup& setup;
  EnginePool& engines;
  const RunOptions& options;
  const std::string& directory;
  const std::string& todo;  // per item of the plan: '1' to run, 'p' to probe first, '0' done
  double run_start;
};

}  // namespace chunkstate
