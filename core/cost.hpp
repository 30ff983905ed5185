// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/checkpoint/model_config.hpp"
#include "core/sequence_state.hpp"

namespace chunkstate {

/// What the algorithm has to do, from shapes alone: multiply-add = 2 FLOPs; bytes = the least that
/// must move between memory and processor if every pass reads each weight once and every state is
/// read and written once.
struct Cost {
  double flops = 0;
  double bytes = 0;

  Cost& operator+=(const Cost& other) {
    flops += other.flops;
    bytes += other.bytes;
    return *this;
  }
};

/// Storage sizes in bytes per element that the byte count depends on.
struct CostSizes {
  double weight_bytes_per_pass = 0;  // Weights::streamed_bytes()
  std::int64_t activation = 4;
  std::int64_t state = 4;
};

/// One forward pass over `tokens` new tokens of one sequence that has `past` before them, making
/// `logits_rows` rows of logits. Formulas: spec section 4 (GEMMs 2 d_in d_out per token; SSD in
/// causal chunk form, or 5 heads head_dim state_dim per token when tokens == 1; causal attention 4
/// per key and channel).
Cost forward_cost(const ModelConfig& config, const CostSizes& sizes, const SsdSettings& ssd,
                  std::int64_t past, std::int64_t tokens, std::int64_t logits_rows);

/// A request: prompt of `tokens_in`, then `tokens_out` new tokens, with or without a cache.
Cost request_cost(const ModelConfig& config, const CostSizes& sizes, const SsdSettings& ssd,
                  std::int64_t tokens_in, std::int64_t tokens_out, bool use_cache);

}  // namespace chunkstate
