// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/continuous_batch.hpp"
#include "experiments/plan/work_plan.hpp"
#include "experiments/record/request_record.hpp"
#include "experiments/run/engine_pool.hpp"
#include "experiments/run/resource_meter.hpp"
#include "experiments/run/telemetry.hpp"
#include "experiments/spec/experiment_spec.hpp"
#include "experiments/spec/prompt_set.hpp"

namespace chunkstate {

/// Slots of a batch: how many, and how long.
struct BatchSlots {
  std::int64_t slots = 1;
  std::int64_t longest_prompt = 1;  // that runs: it fits the context and, alone, the memory
  std::int64_t capacity = 1;        // tokens of a slot, new ones included
};

/// Of at most `most` slots as many as `memory` holds (NaN: all), at least one. `prompts`: tokens of
/// each prompt that may come.
BatchSlots slots_that_fit(const Model& model, const SsdSettings& ssd, const PointSettings& settings,
                          const std::vector<std::int64_t>& prompts, std::int64_t most,
                          double memory);

/// Runs requests of points whose scenario is offline and measures them: those of one point at a
/// time, up to scenario.batch together.
class BatchRunner {
 public:
  /// Keeps references; as RequestRunner.
  BatchRunner(const ExperimentSpec& spec, const PromptSet& prompts, EnginePool& engines, int rank,
              double run_start);

  bool idle() const { return running_.empty() && again_.empty() && ended_.empty(); }
  /// Whether some item could begin.
  bool has_room() const;
  /// Whether this one could: it is of the batch's point, or the batch is empty.
  bool takes(const WorkItem& item) const;

  /// Before the first recorded request of a point: as RequestRunner::warm_up, through the batch.
  void warm_up(const WorkItem& item);
  /// Prefills the item, which takes() must have let in. What goes wrong with it makes a failed or
  /// skipped record. Where memory runs out, all that is running begins again, at last in half as
  /// many slots.
  void begin(const WorkItem& item);
  /// Decode steps until some requests have ended: their records. Nothing if idle().
  std::vector<RequestRecord> advance();
  /// Gives the slots' memory back to the model. Only if idle().
  void close() { batch_.reset(); }

 private:
  struct Running {
    WorkItem item;
    RequestRecord record;
    double start = 0;
    std::int64_t launched = 0;  // operators before it
    ResourceMeter meter;
    GpuMeter::Use used;       // its share of the energy; the rest as over its whole time
    double busy_seconds = 0;  // for which used.busy is known
  };

  const PointSettings& settings_of(const WorkItem& item) const {
    return spec_.points[static_cast<std::size_t>(item.point)].settings;
  }
  const std::vector<std::int64_t>& prompt_lengths(const OpenModel& files);
  void open(const WorkItem& item);
  void start(const WorkItem& item);
  void settle(const PointSettings& settings);
  void finish(const BatchedResult& result);
  void fail(RequestRecord record, const std::string& error);
  void fail_all(const std::string& error);
  void free_memory(const WorkItem* newcomer);

  const ExperimentSpec& spec_;
  const PromptSet& prompts_;
  EnginePool& engines_;
  int rank_;
  double run_start_;
  Telemetry telemetry_;
  double metered_since_ = 0;

  std::unique_ptr<ContinuousBatch> batch_;
  std::int64_t point_ = -1;  // of the batch, as the next
  BatchSlots slots_;
  std::map<std::int64_t, std::int64_t> most_slots_;  // of points whose memory ran out
  bool freed_caches_ = false;                        // since a request was done
  std::map<std::int64_t, Running> running_;          // by slot
  std::vector<WorkItem> again_;                      // begin before any newcomer
  std::vector<RequestRecord> ended_;                 // not returned yet
  std::map<const OpenModel*, std::vector<std::int64_t>> lengths_;
  std::set<std::int64_t> warm_points_, told_points_;
  double warmup_seconds_ = std::numeric_limits<double>::quiet_NaN();
};

}  // namespace chunkstate
