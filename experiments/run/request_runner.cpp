// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/request_runner.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <stdexcept>
#include <utility>

#include "core/cost.hpp"
#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "core/generate.hpp"
#include "core/launches.hpp"
#include "core/trace.hpp"
#include "experiments/run/clock.hpp"
#include "experiments/run/resource_meter.hpp"

namespace chunkstate {
namespace {

CostSizes cost_sizes(const Model& model) {
  CostSizes sizes;
  sizes.weight_bytes_per_pass = model.weights().streamed_bytes();
  sizes.activation = static_cast<std::int64_t>(bytes_of(model.options().dtype));
  sizes.state = static_cast<std::int64_t>(bytes_of(model.options().state_dtype));
  return sizes;
}

/// The copies of a batch share what is read of the weights, nothing else.
Cost batch_cost(const Model& model, const SsdSettings& ssd, const RequestRecord& record,
                bool use_cache) {
  const auto cost_of = [&](const CostSizes& sizes) {
    return request_cost(model.config(), sizes, ssd, record.tokens_in, record.tokens_out(),
                        use_cache);
  };
  CostSizes sizes = cost_sizes(model);
  Cost cost = cost_of(sizes);
  sizes.weight_bytes_per_pass = 0;
  const Cost without_weights = cost_of(sizes);
  for (std::int64_t copy = 1; copy < record.batch; ++copy) cost += without_weights;
  return cost;
}

SamplingParams sampling_of(const PointSettings& settings) {
  if (settings.sampling == "greedy") return {};
  return {static_cast<float>(settings.temperature), static_cast<std::int32_t>(settings.top_k),
          static_cast<float>(settings.top_p)};
}

// Names of variants and ids of items need no escapes.
std::string trace_arguments(const WorkItem& item, const PointSettings& settings) {
  return "\"item\":\"" + item.id + "\",\"point\":" + std::to_string(item.point) +
         ",\"prompt\":" + std::to_string(item.prompt) +
         ",\"repeat\":" + std::to_string(item.repeat) + ",\"variant\":\"" + settings.variant + "\"";
}

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

/// A request that needs more memory than there is.
struct DoesNotFit {
  double bytes;
};

/// Throws DoesNotFit. What models keep for their next requests counts as free: it is reused or,
/// where memory gets short, freed.
void check_memory(const EnginePool& engines, const Model& model, const SsdSettings& ssd,
                  const PointSettings& settings, std::int64_t tokens_in,
                  std::int64_t max_new_tokens) {
  const std::int64_t total = tokens_in + max_new_tokens;
  const auto needed = static_cast<double>(model.request_bytes(
      ssd, settings.batch, settings.use_cache ? tokens_in : total, settings.prefill_tokens, total));
  const bool on_device = model.options().backend == Backend::cuda;
  const double free = on_device ? static_cast<double>(device_memory_total()) -
                                      static_cast<double>(device_memory_in_use())
                                : available_memory_bytes();
  const double reusable =
      on_device ? static_cast<double>(engines.held_bytes() - model.weights().owned_bytes())
                : static_cast<double>(model.working_bytes());
  if (needed > free + reusable) throw DoesNotFit{needed};
}

void check_context(const ModelConfig& config, const PointSettings& settings, std::int64_t tokens) {
  const std::int64_t most =
      settings.model_context > 0 ? settings.model_context : config.max_position_embeddings;
  const bool attends = std::find(config.layers.begin(), config.layers.end(),
                                 LayerKind::attention) != config.layers.end();
  if (attends && most > 0 && tokens > most) {
    throw std::length_error("prompt and new tokens are " + std::to_string(tokens) +
                            ", the model's context holds " + std::to_string(most));
  }
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
  GenerateOptions options;
  options.max_new_tokens = max_new_tokens;
  options.use_cache = settings.use_cache;
  options.sampling = sampling_of(settings);
  options.prefill_tokens = settings.prefill_tokens;
  if (spec_.parallel.mode == "sequence") options.group = groups_.of(model.options().backend);
  if (settings.stop_at_eos) options.stop_tokens = files.stop_tokens();

  const TraceRegion region("generate");
  const std::int64_t launched = launched_operators.load();

  ResourceMeter meter;
  meter.start();
  telemetry_.start(model.options().backend == Backend::cuda);
  static_cast<void>(device_memory_given_back());  // by requests before
  const double start = monotonic_seconds();
  const std::vector<std::int32_t> tokens =
      prompt.tokens.empty() ? files.encode_prompt(prompt.text, prompt.token_len) : prompt.tokens;
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

  const Generated& result = results[0];
  record.token_ids = result.tokens;
  record.logprobs = result.logprobs;
  record.text = files.decode(result.tokens);
  record.stop_reason = result.stopped ? "eos" : "length";
  if (!record.t_emit.empty()) {
    record.ttft = record.t_emit.front();
    record.e2e = record.t_emit.back();
  }
  const Cost cost = batch_cost(model, ssd, record, settings.use_cache);
  record.launches = static_cast<double>(launches);
  record.flops = cost.flops;
  record.bytes_moved = cost.bytes;
  // What other models and longer requests have left behind is not this one's.
  const bool on_device = model.options().backend == Backend::cuda;
  const std::size_t left_behind = (on_device ? engines_.held_bytes() - model.weights().owned_bytes()
                                             : engines_.working_bytes()) -
                                  model.working_bytes() + model.idle_bytes();
  record.peak_memory_bytes =
      (on_device ? static_cast<double>(device_memory_in_use() + device_memory_given_back())
                 : use.peak_memory_bytes) -
      static_cast<double>(left_behind);
  record.cpu_percent = use.cpu_percent;
  record.io_wait = use.io_wait;
  record.energy = used_.energy;
  record.gpu_percent = used_.busy;
  record.sm_clock = 1e6 * used_.sm_clock;
  record.throttled = used_.throttled;
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
      error = "out_of_memory: not enough memory, also after freeing caches";
      if (groups_.host != nullptr) {  // the others cannot begin again
        failed_alone_ = true;
        break;
      }
      engines_.release_models();
      begin();
      continue;
    } catch (const DoesNotFit& missing) {
      begin();
      record.status = RequestStatus::skipped;
      record.error = fmt::format("memory: needs {:.0f} bytes beside the weights", missing.bytes);
      return record;
    } catch (const std::length_error& e) {
      error = std::string("context: ") + e.what();
    } catch (const std::domain_error& e) {
      error = std::string("nan_logits: ") + e.what();
    } catch (const InputError& e) {
      error = std::string("input: ") + e.what();
    } catch (const UsageError& e) {
      error = std::string("usage: ") + e.what();
    } catch (const std::exception& e) {
      error = std::string("error: ") + e.what();
      failed_alone_ = groups_.host != nullptr;
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
