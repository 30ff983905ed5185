// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/checkpoint/model_config.hpp"
#include "core/json_input.hpp"

// Family "mamba1" (Hugging Face's model_type "mamba"). In ModelConfig a channel is a head of
// head_dim 1, there are no groups, and dt_rank is above 0; so windows and states have their shapes
// as in other families.
namespace chunkstate {

/// Of a config.json. Throws InputError.
ModelConfig read_mamba1_config(const JsonObject& object);

/// The 8-layer language model of the published scan-fusion benchmark (KernelBench level 5: hidden
/// and inner width 1,024, state_dim 16, dt_rank 64, 4 taps, vocabulary 16,384, untied; 60.2 M
/// parameters), with Mamba-1's own mathematics: decays exp(delta A) in place of the benchmark's
/// delta exp(-A), and a final norm.
ModelConfig mamba1_lm_config();

/// expected_tensors() of this family.
std::vector<std::pair<std::string, std::vector<std::int64_t>>> mamba1_tensors(
    const ModelConfig& config);

}  // namespace chunkstate
