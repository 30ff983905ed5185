// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/request_parts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <stdexcept>

#include "core/cost.hpp"
#include "core/errors.hpp"

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

}  // namespace

std::vector<std::int32_t> prompt_tokens(const Prompt& prompt, const OpenModel& files) {
  if (!prompt.tokens.empty()) return prompt.tokens;
  return files.encode_prompt(prompt.text, prompt.token_len);
}

GenerateOptions generate_options(const PointSettings& settings, const OpenModel& files) {
  GenerateOptions options;
  options.max_new_tokens = settings.max_new_tokens;
  options.use_cache = settings.use_cache;
  options.sampling = sampling_of(settings);
  options.prefill_tokens = settings.prefill_tokens;
  if (settings.stop_at_eos) options.stop_tokens = files.stop_tokens();
  return options;
}

std::int64_t most_tokens(const ModelConfig& config, const PointSettings& settings) {
  const bool attends = std::find(config.layers.begin(), config.layers.end(),
                                 LayerKind::attention) != config.layers.end();
  if (!attends) return 0;
  return settings.model_context > 0 ? settings.model_context : config.max_position_embeddings;
}

void check_context(const ModelConfig& config, const PointSettings& settings, std::int64_t tokens) {
  const std::int64_t most = most_tokens(config, settings);
  if (most > 0 && tokens > most) {
    throw std::length_error("prompt and new tokens are " + std::to_string(tokens) +
                            ", the model's context holds " + std::to_string(most));
  }
}

double request_memory(const EnginePool& engines, const Model& model) {
  const bool on_device = model.options().backend == Backend::cuda;
  const double free = on_device ? static_cast<double>(device_memory_total()) -
                                      static_cast<double>(device_memory_in_use())
                                : available_memory_bytes();
  const double reusable =
      on_device ? static_cast<double>(engines.held_bytes() - model.weights().owned_bytes())
                : static_cast<double>(model.working_bytes());
  return free + reusable;
}

void check_memory(const EnginePool& engines, const Model& model, const SsdSettings& ssd,
                  const PointSettings& settings, std::int64_t tokens_in,
                  std::int64_t max_new_tokens) {
  const std::int64_t total = tokens_in + max_new_tokens;
  const auto needed = static_cast<double>(model.request_bytes(
      ssd, settings.batch, settings.use_cache ? tokens_in : total, settings.prefill_tokens, total));
  if (needed > request_memory(engines, model)) throw DoesNotFit{needed};
}

void record_output(const Generated& result, const OpenModel& files, RequestRecord& record) {
  record.token_ids = result.tokens;
  record.logprobs = result.logprobs;
  record.text = files.decode(result.tokens);
  record.stop_reason = result.stopped ? "eos" : "length";
  if (record.t_emit.empty()) return;
  record.ttft = record.t_emit.front();
  record.e2e = record.t_emit.back();
}

void record_cost(const Model& model, const SsdSettings& ssd, const PointSettings& settings,
                 RequestRecord& record) {
  const Cost cost = batch_cost(model, ssd, record, settings.use_cache);
  record.flops = cost.flops;
  record.bytes_moved = cost.bytes;
}

void record_resources(const EnginePool& engines, const Model& model, const ResourceUse& use,
                      const GpuMeter::Use& device, RequestRecord& record) {
  const bool on_device = model.options().backend == Backend::cuda;
  const std::size_t left_behind =
      (on_device ? engines.held_bytes() - model.weights().owned_bytes() : engines.working_bytes()) -
      model.working_bytes() + model.idle_bytes();
  record.peak_memory_bytes =
      (on_device ? static_cast<double>(device_memory_in_use() + device_memory_given_back())
                 : use.peak_memory_bytes) -
      static_cast<double>(left_behind);
  record.cpu_percent = use.cpu_percent;
  record.io_wait = use.io_wait;
  record.energy = device.energy;
  record.gpu_percent = device.busy;
  record.sm_clock = 1e6 * device.sm_clock;
  record.throttled = device.throttled;
}

void record_skipped(const DoesNotFit& missing, RequestRecord& record) {
  record.status = RequestStatus::skipped;
  record.error = fmt::format("memory: needs {:.0f} bytes beside the weights", missing.bytes);
}

// Names of variants and ids of items need no escapes.
std::string trace_arguments(const WorkItem& item, const PointSettings& settings) {
  return "\"item\":\"" + item.id + "\",\"point\":" + std::to_string(item.point) +
         ",\"prompt\":" + std::to_string(item.prompt) +
         ",\"repeat\":" + std::to_string(item.repeat) + ",\"variant\":\"" + settings.variant + "\"";
}

std::string request_error(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const std::bad_alloc&) {
    return "out_of_memory: not enough memory, also after freeing caches";
  } catch (const std::length_error& e) {
    return std::string("context: ") + e.what();
  } catch (const std::domain_error& e) {
    return std::string("nan_logits: ") + e.what();
  } catch (const InputError& e) {
    return std::string("input: ") + e.what();
  } catch (const UsageError& e) {
    return std::string("usage: ") + e.what();
  } catch (const std::exception& e) {
    return std::string("error: ") + e.what();
  }
}

}  // namespace chunkstate
