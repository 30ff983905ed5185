// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <set>

#include "experiments/plan/work_plan.hpp"
#include "experiments/record/request_record.hpp"
#include "experiments/run/engine_pool.hpp"
#include "experiments/run/telemetry.hpp"
#include "experiments/spec/experiment_spec.hpp"
#include "experiments/spec/prompt_set.hpp"
#include "parallel/rank_group.hpp"

namespace chunkstate {

/// Where the energy of an experiment's requests is read on this rank.
Telemetry::Sources telemetry_sources(const ExperimentSpec& spec);

/// Runs single requests and measures them.
class RequestRunner {
 public:
  /// Keeps references. `run_start`: monotonic_seconds() of the run's begin, the zero of t_start.
  /// `groups`: their ranks run every request together, and the last one's records count.
  RequestRunner(const ExperimentSpec& spec, const PromptSet& prompts, EnginePool& engines, int rank,
                double run_start, const EngineGroups& groups = {})
      : spec_(spec),
        prompts_(prompts),
        engines_(engines),
        rank_(rank),
        run_start_(run_start),
        groups_(groups),
        telemetry_(telemetry_sources(spec)) {}

  /// Prompt in, tokens out, everything measured. What goes wrong with the item (a prompt longer
  /// than the model's context, NaN logits, out of memory after one retry with caches freed, ...)
  /// makes a failed record with class and message; nothing is thrown for it.
  RequestRecord run(const WorkItem& item);

  /// Before the first recorded request of a point: measure.warmup unrecorded ones like `item`, cut
  /// to two new tokens (prefill and one decode step). The next run() records how long they took.
  /// Never throws.
  void warm_up(const WorkItem& item);

  /// Whether the last request failed for a reason that other ranks of the group may not have had:
  /// they may wait for this one.
  bool failed_alone() const { return failed_alone_; }

  /// A record of the item with nothing measured.
  static RequestRecord blank_record(const WorkItem& item, int rank);

 private:
  void generate_into(const WorkItem& item, std::int64_t max_new_tokens, RequestRecord& record);

  const ExperimentSpec& spec_;
  const PromptSet& prompts_;
  EnginePool& engines_;
  int rank_;
  double run_start_;
  EngineGroups groups_;
  Telemetry telemetry_;
  GpuMeter::Use used_;  // by the last request
  bool failed_alone_ = false;
  std::set<std::int64_t> warm_points_;
  double warmup_seconds_ = std::numeric_limits<double>::quiet_NaN();
};

/// Work of an item relative to others, for balancing: the FLOPs of its request, the prompt's length
/// estimated from its stated token_len or its bytes.
double estimated_cost(const PointSettings& settings, const Prompt& prompt, const OpenModel& files);

}  // namespace chunkstate
