// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/checkpoint/model_config.hpp"
#include "core/json_input.hpp"
#include "core/layers.hpp"
#include "core/weights.hpp"
#include "kernels/ssd/variants.hpp"

// Family "mamba1": Mamba-1 layers and nothing else (Hugging Face's model_type "mamba"). In
// ModelConfig a channel is a head of head_dim 1, there are no groups, and dt_rank is above 0; so
// windows and states have their shapes as in other families.
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

/// All layers: residual += out_proj(scan(conv(in_proj(norm(residual))))) for each. `x` is scratch;
/// both [tokens, hidden]. The scan's variant is ssd().variant's name.
void mamba1_layers(const LayerContext& context, const std::vector<Mamba1Weights>& layers,
                   AnyView<2> x, AnyView<2> residual);

/// Arena bytes that mamba1_layers needs; 0 for other families.
std::size_t mamba1_arena_bytes(const ModelConfig& config, DType dtype, std::int64_t tokens);

/// scan_scratch_bytes() of this family.
std::size_t mamba1_scratch_bytes(const ModelConfig& config, const SsdSettings& ssd,
                                 std::int64_t sequences, std::int64_t tokens);

/// FLOPs of one layer for one token, a multiply-add as 2.
double mamba1_layer_flops(const ModelConfig& config);

/// A row of the table of selective scans, as an exact variant of SsdSettings; "default_optimized"
/// is fused_block. nullptr if there is none of this name.
const SsdVariant* find_mamba1_variant(std::string_view name);

}  // namespace chunkstate
