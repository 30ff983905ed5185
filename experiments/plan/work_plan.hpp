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
  std::string
      id;  // 32 hex digits, distinct within a plan: hash of what decides the result, that is the
           // point's settings, the model's digest, the prompt's text or tokens and the repeat
           // (and, for equal prompts, which of them it is). So it does not change with the order
           // of measurement, the limit of prompts or the other points; that a folder's results
           // are of this experiment is for ExperimentSpec::config_hash to say.
  std::int64_t point = 0;   // index into ExperimentSpec::points
  std::int64_t prompt = 0;  // index into PromptSet::prompts
  std::int64_t repeat = 0;
  double cost = 0;         // relative work, for balancing only
  std::uint64_t seed = 0;  // for sampling: the low 64 bits of the id that the item has in scenario
                           // single_stream, so any rank draws the same tokens, in any batch
};

/// All items of an experiment in execution order. `interleaved`: all points and prompts of repeat
/// 0, then of repeat 1, ...; within that the longest first. `blocked`: point after point, within it
/// repeat after repeat, each the longest first. Where a point's scenario is offline, `interleaved`
/// finishes each repeat point after point, because only items of one point share a batch. Equal
/// costs keep the order of points, then of
/// prompts. `model_digests[p]` belongs to point p, `costs[p * prompts + m]` to prompt m at point p
/// (no costs: all equal). Throws UsageError if there are more than 2^31 items,
/// std::invalid_argument if a size does not fit or a cost is NaN.
std::vector<WorkItem> make_work_plan(const ExperimentSpec& spec, const PromptSet& prompts,
                                     const std::vector<std::string>& model_digests,
                                     const std::vector<double>& costs_per_point_and_prompt);

}  // namespace chunkstate
