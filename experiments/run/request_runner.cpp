// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/request_runner.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <utility>

#include "core/cost.hpp"
#include "core/engine_names.hpp"
#include "core/generate.hpp"
#include "core/launches.hpp"
#include "core/trace.hpp"
#include "experiments/run/clock.hpp"
#include "experiments/run/request_parts.hpp"
#include "experiments/run/resource_meter.hpp"

namespace chunkstate {
namespace {

std::string trace_arguments(const GpuMeter::Use& use) {
  std::string text;
  const auto add = [&](const char* name, double value) {
    if (!std::isnan(value)) text += ",\"" + std::string(name) + "\":" + std::to_string(value);
  };
  add("energy_joules", use.energy);
  add("gpu_percent", use.busy);
  add("sm_clock_megahertz", use.sm_clock);
  add("power_watts", use.power);
  std::string reasons;
  for (std::size_t i = 0; i < throttle_reasons.size(); ++i) {
    if (!is_throttled_by(use.throttled, i)) continue;
    reasons += (reasons.empty() ? "" : ", ") + std::string(throttle_reasons[i].name);
  }
  return reasons.empty() ? text : text + ",\"throttled\":\"" + reasons + "\"";
}

}  // namespace

Telemetry::Sources telemetry_sources(const ExperimentSpec& spec) {
  Telemetry::Sources sources;
  const bool on_gpu = std::any_of(spec.points.begin(), spec.points.end(), [](const auto& point) {
    return backend_from_name(point.settings.backend) == Backend::cuda;
  });
  if (on_gpu) sources.pci_bus_id = gpu_bus_id();
  return sources;
}

RequestRecord RequestRunner::blank_record(const WorkItem& item, int rank) {
  RequestRecord record;
  record.item_id = item.id;
  record.point = item.point;
  record.prompt = item.prompt;
  record.repeat = item.repeat;
  record.rank = rank;
  return record;
}

void RequestRunner::generate_into(const WorkItem& item, std::int64_t max_new_tokens,
                                  RequestRecord& record) {
  const PointSettings& settings = spec_.points[static_cast<std::size_t>(item.point)].settings;
  const Prompt& prompt = prompts_.prompts[static_cast<std::size_t>(item.prompt)];
  Model& model = engines_.model(settings);
  const OpenModel& files = engines_.files(settings);
  const SsdSettings ssd =
      ssd_settings(settings.variant, settings.chunk_size, settings.lookback, model.config());
  GenerateOptions options = generate_options(settings, files);
  options.max_new_tokens = max_new_tokens;
  if (spec_.parallel.mode == "sequence") options.group = groups_.of(model.options().backend);

  const TraceRegion region("generate");
  const std::int64_t launched = launched_operators.load();

  ResourceMeter meter;
  meter.start();
  telemetry_.start(model.options().backend == Backend::cuda);
  static_cast<void>(device_memory_given_back());  // by requests before
  const double start = monotonic_seconds();
  const std::vector<std::int32_t> tokens = prompt_tokens(prompt, files);
  record.tokens_in = static_cast<std::int64_t>(tokens.size());
  check_context(model.config(), settings, record.tokens_in + max_new_tokens);
  // The ranks of a group must do the same, and may not have the same memory.
  if (groups_.host == nullptr) {
    check_memory(engines_, model, ssd, settings, record.tokens_in, max_new_tokens);
  }
  record.batch = settings.batch;
  const std::vector<std::vector<std::int32_t>> sequences(static_cast<std::size_t>(record.batch),
                                                         tokens);
  const std::vector<std::uint64_t> seeds(sequences.size(), item.seed);
  const auto results =
      generate(model, ssd, sequences, seeds, options, [&](std::int64_t sequence, const Sampled&) {
        if (sequence + 1 != record.batch) return;  // a step has emitted when its last copy has
        record.t_emit.push_back(monotonic_seconds() - start);
      });
  const std::int64_t launches = launched_operators.load() - launched;
  used_ = telemetry_.stop();
  const ResourceUse use = meter.stop();
  if (results.empty()) return;  // another rank of the group has them

  record_output(results[0], files, record);
  if (record.tokens_out() > 1) record.batch_mean = static_cast<double>(record.batch);
  record.launches = static_cast<double>(launches);
  record_cost(model, ssd, settings, record);
  record_resources(engines_, model, use, used_, record);
}

RequestRecord RequestRunner::run(const WorkItem& item) {
  const PointSettings& settings = spec_.points[static_cast<std::size_t>(item.point)].settings;
  TraceRegion region("request");
  if (region.recorded()) region.set_arguments(trace_arguments(item, settings));
  const double t_start = monotonic_seconds() - run_start_;
  const double warmup_seconds =
      std::exchange(warmup_seconds_, std::numeric_limits<double>::quiet_NaN());
  RequestRecord record;
  const auto begin = [&] {
    record = blank_record(item, rank_);
    record.t_start = t_start;
    record.warmup_seconds = warmup_seconds;
  };
  begin();
  std::string error;
  failed_alone_ = false;
  for (int attempt = 0; attempt < 2; ++attempt) {
    try {
      generate_into(item, settings.max_new_tokens, record);
      if (region.recorded()) {
        region.set_arguments(trace_arguments(item, settings) + trace_arguments(used_));
      }
      return record;
    } catch (const std::bad_alloc&) {
      error = request_error(std::current_exception());
      if (groups_.host == nullptr) {
        engines_.release_models();
        begin();
        continue;
      }
      failed_alone_ = true;  // the others cannot begin again
    } catch (const DoesNotFit& missing) {
      begin();
      record_skipped(missing, record);
      return record;
    } catch (...) {
      error = request_error(std::current_exception());
      failed_alone_ = groups_.host != nullptr && error.starts_with("error: ");
    }
    break;
  }
  begin();
  record.status = RequestStatus::failed;
  record.error = error;
  return record;
}

void RequestRunner::warm_up(const WorkItem& item) {
  if (spec_.measure.warmup == 0 || !warm_points_.insert(item.point).second) return;
  const PointSettings& settings = spec_.points[static_cast<std::size_t>(item.point)].settings;
  const TraceRegion region("warm-up");
  const double start = monotonic_seconds();
  for (std::int64_t i = 0; i < spec_.measure.warmup; ++i) {
    RequestRecord unrecorded;
    try {
      generate_into(item, std::min<std::int64_t>(settings.max_new_tokens, 2), unrecorded);
    } catch (const DoesNotFit&) {
    } catch (const std::exception&) {
      // The recorded request meets the same error and records it.
    }
  }
  warmup_seconds_ = monotonic_seconds() - start;
}

double estimated_cost(const PointSettings& settings, const Prompt& prompt, const OpenModel& files) {
  ModelConfig config = files.config;
  if (settings.model_layers > 0 &&
      settings.model_layers < static_cast<std::int64_t>(config.layers.size())) {
    config.layers.resize(static_cast<std::size_t>(settings.model_layers));
  }
  std::int64_t tokens = prompt.token_len;
  if (!prompt.tokens.empty()) tokens = static_cast<std::int64_t>(prompt.tokens.size());
  if (tokens <= 0) tokens = static_cast<std::int64_t>(prompt.text.size() / 4 + 1);
  const SsdSettings ssd =
      ssd_settings(settings.variant, settings.chunk_size, settings.lookback, config);
  return static_cast<double>(settings.batch) *
         request_cost(config, {}, ssd, tokens, settings.max_new_tokens, settings.use_cache).flops;
}

}  // namespace chunkstate
