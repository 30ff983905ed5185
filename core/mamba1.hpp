// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/checkpoint/model_config.hpp"
#include "core/layers.hpp"
#include "core/weights.hpp"
#include "kernels/ssd/variants.hpp"

// Family "mamba1" (core/checkpoint/mamba1_config.hpp): Mamba-1 layers and nothing else.
namespace chunkstate {

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
