// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "experiments/plan/work_plan.hpp"
#include "experiments/record/journal.hpp"
#include "experiments/run/engine_pool.hpp"
#include "experiments/spec/experiment_spec.hpp"
#include "experiments/spec/prompt_set.hpp"
#include "parallel/communicator.hpp"

namespace chunkstate {

/// Calls `body` on every rank. If it throws on some rank, all ranks throw AgreedError with the
/// lowest such rank's message: nobody is left waiting, and the message appears once.
void agree(Communicator& world, const std::function<void()>& body);

/// An experiment with everything it needs opened and its work listed: the same on every rank.
struct ExperimentSetup {
  ExperimentSpec spec;
  PromptSet prompts;
  std::vector<std::string> model_digests;  // per point
  std::vector<WorkItem> plan;
  std::string plan_hash;  // over all item ids
  EvaluationFacts evaluation;
};

/// Rank 0 reads the file and sends its bytes to the others, who all parse the same text.
/// Collective. Throws AgreedError.
ExperimentSpec read_experiment(Communicator& world, const std::string& file,
                               const std::vector<std::string>& overrides);

/// Prompts and models are opened by every rank, models through `engines`, and must be the same
/// everywhere. `runs_here`: the machine must have the devices that the experiment names.
/// Collective. Throws AgreedError.
ExperimentSetup set_up_experiment(Communicator& world, EnginePool& engines, ExperimentSpec spec,
                                  bool runs_here = true);

/// What a journal's first line says of the experiment: enough to tell it from another one. Process,
/// run id and provenance are the caller's to add.
RunStart identity_of(const ExperimentSetup& setup);

/// CPUs this rank may use, divided by the ranks of the host that share them. Collective.
int threads_per_rank(Communicator& world, std::int64_t wanted);

}  // namespace chunkstate
