// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "core/generate.hpp"
#include "core/open_model.hpp"
#include "experiments/plan/work_plan.hpp"
#include "experiments/record/request_record.hpp"
#include "experiments/run/engine_pool.hpp"
#include "experiments/run/resource_meter.hpp"
#include "experiments/run/telemetry.hpp"
#include "experiments/spec/experiment_spec.hpp"
#include "experiments/spec/prompt_set.hpp"

// What requests that run alone and those that share a batch have in common.
namespace chunkstate {

std::vector<std::int32_t> prompt_tokens(const Prompt& prompt, const OpenModel& files);
/// max_new_tokens of the settings; no group.
GenerateOptions generate_options(const PointSettings& settings, const OpenModel& files);

/// Tokens that a sequence may have; 0: any number.
std::int64_t most_tokens(const ModelConfig& config, const PointSettings& settings);
/// Throws std::length_error for more.
void check_context(const ModelConfig& config, const PointSettings& settings, std::int64_t tokens);

/// A request that needs more memory than there is.
struct DoesNotFit {
  double bytes;
};
/// Bytes that requests may take on the model's backend; NaN where the system does not say. What
/// models keep for their next requests counts as free: it is reused or, where memory gets short,
/// freed.
double request_memory(const EnginePool& engines, const Model& model);
/// Throws DoesNotFit.
void check_memory(const EnginePool& engines, const Model& model, const SsdSettings& ssd,
                  const PointSettings& settings, std::int64_t tokens_in,
                  std::int64_t max_new_tokens);

/// What came out, and its times from record.t_emit.
void record_output(const Generated& result, const OpenModel& files, RequestRecord& record);
/// flops and bytes_moved of the request and its equal copies, without others of a batch.
void record_cost(const Model& model, const SsdSettings& ssd, const PointSettings& settings,
                 RequestRecord& record);
/// Without what other models and longer requests have left behind.
void record_resources(const EnginePool& engines, const Model& model, const ResourceUse& use,
                      const GpuMeter::Use& device, RequestRecord& record);
void record_skipped(const DoesNotFit& missing, RequestRecord& record);

/// Members of a JSON object that say which request a region of a timeline belongs to.
std::string trace_arguments(const WorkItem& item, const PointSettings& settings);

/// "class: message" of what ended a request; class "error" for what has none of its own. Throws
/// what is no std::exception.
std::string request_error(const std::exception_ptr& exception);

}  // namespace chunkstate
