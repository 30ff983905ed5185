// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/batch_runner.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "core/engine_names.hpp"
#include "core/launches.hpp"
#include "core/trace.hpp"
#include "experiments/run/clock.hpp"
#include "experiments/run/request_parts.hpp"
#include "experiments/run/request_runner.hpp"

namespace chunkstate {
namespace {

// A state's busy time and throttling over two stretches, its clock and power at the later one's
// end. `share` of the later one's energy.
void add_use(GpuMeter::Use& used, double& busy_seconds, const GpuMeter::Use& later, double share,
             double seconds) {
  used.energy += share * later.energy;
  if (!std::isnan(later.busy) && seconds > 0) {
    const double before = busy_seconds > 0 ? used.busy * busy_seconds : 0.0;
    busy_seconds += seconds;
    used.busy = (before + later.busy * seconds) / busy_seconds;
  }
  used.sm_clock = later.sm_clock;
  used.power = later.power;
  if (later.throttled >= 0) {
    used.throttled = std::max<std::int64_t>(used.throttled, 0) | later.throttled;
  }
}

SsdSettings ssd_of(const PointSettings& settings, const Model& model) {
  return ssd_settings(settings.variant, settings.chunk_size, settings.lookback, model.config());
}

}  // namespace

BatchSlots slots_that_fit(const Model& model, const SsdSettings& ssd, const PointSettings& settings,
                          const std::vector<std::int64_t>& prompts, std::int64_t most,
                          double memory) {
  const auto fits = [memory](std::size_t bytes) { return !(static_cast<double>(bytes) > memory); };
  const std::int64_t context = most_tokens(model.config(), settings);
  BatchSlots found;
  for (const std::int64_t prompt : prompts) {
    const std::int64_t total = prompt + settings.max_new_tokens;
    if (prompt <= found.longest_prompt || (context > 0 && total > context)) continue;
    if (fits(model.slots_bytes(ssd, 1, prompt, settings.prefill_tokens, total))) {
      found.longest_prompt = prompt;
    }
  }
  found.capacity = found.longest_prompt + settings.max_new_tokens;
  found.slots = std::max<std::int64_t>(most, 1);
  while (found.slots > 1 && !fits(model.slots_bytes(ssd, found.slots, found.longest_prompt,
                                                    settings.prefill_tokens, found.capacity))) {
    --found.slots;
  }
  return found;
}

BatchRunner::BatchRunner(const ExperimentSpec& spec, const PromptSet& prompts, EnginePool& engines,
                         int rank, double run_start)
    : spec_(spec),
      prompts_(prompts),
      engines_(engines),
      rank_(rank),
      run_start_(run_start),
      telemetry_(telemetry_sources(spec)) {}

bool BatchRunner::has_room() const {
  return again_.empty() && (idle() || (batch_ && !batch_->full()));
}

bool BatchRunner::takes(const WorkItem& item) const {
  return has_room() && (idle() || item.point == point_);
}

const std::vector<std::int64_t>& BatchRunner::prompt_lengths(const OpenModel& files) {
  std::vector<std::int64_t>& lengths = lengths_[&files];
  if (!lengths.empty()) return lengths;
  for (const Prompt& prompt : prompts_.prompts) {
    lengths.push_back(static_cast<std::int64_t>(prompt_tokens(prompt, files).size()));
  }
  return lengths;
}

// Slots for whatever the point has in store, so that a batch need not be emptied to grow.
void BatchRunner::open(const WorkItem& item) {
  const PointSettings& settings = settings_of(item);
  const OpenModel& files = engines_.files(settings);
  Model& model = engines_.model(settings);
  const SsdSettings ssd = ssd_of(settings, model);
  const auto limit = most_slots_.find(item.point);
  slots_ = slots_that_fit(model, ssd, settings, prompt_lengths(files),
                          limit == most_slots_.end() ? settings.scenario_batch : limit->second,
                          request_memory(engines_, model));
  if (slots_.slots < settings.scenario_batch && told_points_.insert(item.point).second) {
    fmt::print(stderr,
               "chunkstate: rank {}: point {}: memory for {} of {} sequences of {} tokens at a "
               "time\n",
               rank_, item.point, slots_.slots, settings.scenario_batch, slots_.capacity);
  }
  batch_ = std::make_unique<ContinuousBatch>(
      model, ssd, slots_.slots, slots_.capacity, generate_options(settings, files),
      [this](std::int64_t slot, const Sampled&) {
        const auto found = running_.find(slot);
        if (found == running_.end()) return;  // a warm-up
        Running& running = found->second;
        running.record.t_emit.push_back(monotonic_seconds() - running.start);
      });
}

void BatchRunner::warm_up(const WorkItem& item) {
  if (spec_.measure.warmup == 0 || !warm_points_.insert(item.point).second) return;
  const PointSettings& settings = settings_of(item);
  const TraceRegion region("warm-up");
  const double begin = monotonic_seconds();
  close();
  try {
    open(item);
    point_ = item.point;
    const Prompt& prompt = prompts_.prompts[static_cast<std::size_t>(item.prompt)];
    const auto tokens = prompt_tokens(prompt, engines_.files(settings));
    for (std::int64_t i = 0; i < spec_.measure.warmup; ++i) {
      batch_->begin(tokens, item.seed, std::min<std::int64_t>(settings.max_new_tokens, 2));
      batch_->advance();
    }
  } catch (const std::exception&) {
    close();  // the recorded request meets the same error and records it
  }
  warmup_seconds_ = monotonic_seconds() - begin;
}

void BatchRunner::begin(const WorkItem& item) {
  if (item.point != point_) close();
  point_ = item.point;
  start(item);
}

void BatchRunner::start(const WorkItem& item) {
  const PointSettings& settings = settings_of(item);
  TraceRegion region("begin request");
  if (region.recorded()) region.set_arguments(trace_arguments(item, settings));
  settle(settings);
  Running running;
  running.item = item;
  running.used.energy = 0;
  running.record = RequestRunner::blank_record(item, rank_);
  running.record.t_start = monotonic_seconds() - run_start_;
  running.record.warmup_seconds =
      std::exchange(warmup_seconds_, std::numeric_limits<double>::quiet_NaN());
  const RequestRecord blank = running.record;
  std::int64_t slot = -1;
  try {
    if (!batch_) open(item);
    const OpenModel& files = engines_.files(settings);
    Model& model = engines_.model(settings);
    running.launched = launched_operators.load();
    running.meter.start(running_.empty());
    running.start = monotonic_seconds();
    const std::vector<std::int32_t> tokens =
        prompt_tokens(prompts_.prompts[static_cast<std::size_t>(item.prompt)], files);
    const auto count = static_cast<std::int64_t>(tokens.size());
    running.record.tokens_in = count;
    check_context(model.config(), settings, count + settings.max_new_tokens);
    if (count > slots_.longest_prompt) {  // of those that run, none is longer
      throw DoesNotFit{static_cast<double>(model.slots_bytes(ssd_of(settings, model), 1, count,
                                                             settings.prefill_tokens,
                                                             count + settings.max_new_tokens))};
    }
    slot = batch_->free_slot();
    running_[slot] = std::move(running);
    batch_->begin(tokens, item.seed, settings.max_new_tokens);
  } catch (const std::bad_alloc&) {
    running_.erase(slot);
    free_memory(&item);
  } catch (const DoesNotFit& missing) {
    ended_.push_back(blank);
    record_skipped(missing, ended_.back());
  } catch (...) {
    running_.erase(slot);
    fail(blank, request_error(std::current_exception()));
  }
}

std::vector<RequestRecord> BatchRunner::advance() {
  while (ended_.empty() && !idle()) {
    if (!again_.empty() && (!batch_ || !batch_->full())) {
      const WorkItem item = again_.front();
      again_.erase(again_.begin());
      start(item);
      continue;
    }
    try {
      const std::vector<BatchedResult> results = batch_->advance();
      settle(settings_of(running_.begin()->second.item));
      for (const BatchedResult& result : results) finish(result);
    } catch (const std::bad_alloc&) {
      free_memory(nullptr);
    } catch (...) {
      fail_all(request_error(std::current_exception()));
    }
  }
  return std::exchange(ended_, {});
}

// Between two changes of who runs, what the device uses is shared evenly.
void BatchRunner::settle(const PointSettings& settings) {
  const double now = monotonic_seconds();
  if (!running_.empty()) {
    const GpuMeter::Use use = telemetry_.stop();
    const double share = 1.0 / static_cast<double>(running_.size());
    for (auto& [slot, running] : running_) {
      add_use(running.used, running.busy_seconds, use, share, now - metered_since_);
    }
  }
  telemetry_.start(backend_from_name(settings.backend) == Backend::cuda);
  metered_since_ = now;
}

void BatchRunner::finish(const BatchedResult& result) {
  Running running = std::move(running_.at(result.slot));
  running_.erase(result.slot);
  RequestRecord& record = running.record;
  if (!result.error.empty()) {
    RequestRecord blank = RequestRunner::blank_record(running.item, rank_);
    blank.t_start = record.t_start;
    blank.warmup_seconds = record.warmup_seconds;
    return fail(std::move(blank), "nan_logits: " + result.error);
  }
  const PointSettings& settings = settings_of(running.item);
  Model& model = engines_.model(settings);
  record_output(result.generated, engines_.files(settings), record);
  record.batch_mean = result.mean_batch;
  record.launches = static_cast<double>(launched_operators.load() - running.launched);
  record_cost(model, ssd_of(settings, model), settings, record);
  record_resources(engines_, model, running.meter.stop(), running.used, record);
  ended_.push_back(std::move(record));
  freed_caches_ = false;
}

void BatchRunner::fail(RequestRecord record, const std::string& error) {
  record.status = RequestStatus::failed;
  record.error = error;
  ended_.push_back(std::move(record));
}

void BatchRunner::fail_all(const std::string& error) {
  for (auto& [slot, running] : running_) {
    RequestRecord blank = RequestRunner::blank_record(running.item, rank_);
    blank.t_start = running.record.t_start;
    fail(std::move(blank), error);
  }
  running_.clear();
  close();
}

// First what models keep is freed, then half of the slots are, until one sequence alone lacks
// memory.
void BatchRunner::free_memory(const WorkItem* newcomer) {
  if (freed_caches_ && slots_.slots == 1) {
    fail_all(request_error(std::make_exception_ptr(std::bad_alloc())));
    if (newcomer != nullptr) {
      fail(RequestRunner::blank_record(*newcomer, rank_),
           request_error(std::make_exception_ptr(std::bad_alloc())));
    }
    return;
  }
  for (const auto& [slot, running] : running_) again_.push_back(running.item);
  if (newcomer != nullptr) again_.push_back(*newcomer);
  running_.clear();
  close();
  engines_.release_models();
  if (freed_caches_) {
    most_slots_[point_] = slots_.slots / 2;
    told_points_.erase(point_);
  }
  freed_caches_ = true;
}

}  // namespace chunkstate
