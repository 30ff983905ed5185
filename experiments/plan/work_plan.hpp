// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/spec/experiment_spec.hpp"
#include "experiments/spec/prompt_set.hpp"

namespace chunkstate {

/// One request to run: a prompt at a sweep point, once.
struct WorkItem {
  std::string id;  // 32 hex digits: hash of the resolved experiment without launcher settings, the
                   // model's digest, the prompt's content, the point's settings and the repeat
  std::int64_t point = 0;   // index into ExperimentSpec::points
  std::int64_t prompt = 0;  // index into PromptSet::prompts
  std::int64_t repeat = 0;
  double cost = 0;         // relative work, for balancing only
  std::uint64_t seed = 0;  // for sampling; a function of the id without the repeat's rank or host
};

/// All items of an experiment in execution order. `interleaved`: all points and prompts of repeat
/// 0, then of repeat 1, ...; within that the longest first. `blocked`: point after point.
/// `model_digests[p]` belongs to point p. Throws UsageError if there are more than a million points
/// or 2^31 items.
std::vector<WorkItem> make_work_plan(const ExperimentSpec& spec, const PromptSet& prompts,
                                     const std::vector<std::string>& model_digests,
                                     const std::vector<double>& costs_per_point_and_prompt);

}  // namespace chunkstate
