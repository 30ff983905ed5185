// SPDX-License-Identifier: Apache-2.0
#include "core/cost.hpp"

#include <algorithm>

#include "core/mamba1.hpp"

namespace chunkstate {
namespace {

// FLOPs of the SSD operator per token and layer. Scores are shared by the heads of a group; the
// intra-chunk product covers the causal half; the chunk states and their read-out are the
// inter-chunk part, which `independent` needs for nothing but the last chunk's end state.
double ssd_flops_per_token(const ModelConfig& c, const SsdSettings& ssd, std::int64_t tokens) {
  const auto width = static_cast<double>(c.mamba_heads * c.mamba_head_dim);
  const auto state = static_cast<double>(c.state_dim);
  const std::int64_t slots = state_slots(*ssd.variant, ssd.lookback);
  if (tokens == 1) return 5.0 * width * state * static_cast<double>(slots);
  const auto chunk = static_cast<double>(std::min(ssd.chunk_size, tokens));
  const double intra = (chunk + 1.0) * (static_cast<double>(c.groups) * state + width);
  const double inter = 4.0 * width * state + 2.0 * width * state / chunk;
  return ssd.variant->semantics == SsdSemantics::independent ? intra : intra + inter;
}

Cost mamba_cost(const ModelConfig& c, const CostSizes& sizes, const SsdSettings& ssd,
                std::int64_t tokens) {
  const auto t = static_cast<double>(tokens);
  const auto channels = static_cast<double>(c.conv_channels());
  const auto inner = static_cast<double>(c.inner_size());
  const auto hidden = static_cast<double>(c.hidden_size);
  Cost cost;
  cost.flops = c.dt_rank > 0
                   ? t * mamba1_layer_flops(c)
                   : t * (2.0 * hidden * static_cast<double>(c.in_proj_size()) +
                          2.0 * inner * hidden + 2.0 * static_cast<double>(c.conv_taps) * channels +
                          ssd_flops_per_token(c, ssd, tokens));
  const double state = inner * static_cast<double>(c.state_dim) *
                       static_cast<double>(state_slots(*ssd.variant, ssd.lookback));
  const double window = channels * static_cast<double>(c.conv_taps - 1);
  cost.bytes = 2.0 * state * static_cast<double>(sizes.state) +
               2.0 * window * static_cast<double>(sizes.activation);
  return cost;
}

Cost attention_cost(const ModelConfig& c, const CostSizes& sizes, std::int64_t past,
                    std::int64_t tokens) {
  const auto t = static_cast<double>(tokens);
  const auto hidden = static_cast<double>(c.hidden_size);
  const auto q = static_cast<double>(c.attention_heads * c.attention_head_dim);
  const auto kv = static_cast<double>(c.kv_heads * c.attention_head_dim);
  const double keys_seen = t * static_cast<double>(past) + t * (t + 1.0) / 2.0;
  Cost cost;
  cost.flops = t * 2.0 * hidden * (2.0 * q + 2.0 * kv) + 4.0 * q * keys_seen;
  cost.bytes = 2.0 * kv * (static_cast<double>(past) + t) * static_cast<double>(sizes.activation);
  return cost;
}

}  // namespace

Cost forward_cost(const ModelConfig& config, const CostSizes& sizes, const SsdSettings& ssd,
                  std::int64_t past, std::int64_t tokens, std::int64_t logits_rows) {
  const auto hidden = static_cast<double>(config.hidden_size);
  Cost cost;
  for (const LayerKind kind : config.layers) {
    cost += kind == LayerKind::mamba ? mamba_cost(config, sizes, ssd, tokens)
                                     : attention_cost(config, sizes, past, tokens);
    cost.flops += 6.0 * hidden * static_cast<double>(config.intermediate_size * tokens);
  }
  cost.flops += 2.0 * hidden * static_cast<double>(config.vocab_size * logits_rows);
  cost.bytes += sizes.weight_bytes_per_pass;
  return cost;
}

Cost request_cost(const ModelConfig& config, const CostSizes& sizes, const SsdSettings& ssd,
                  std::int64_t tokens_in, std::int64_t tokens_out, bool use_cache) {
  Cost cost = forward_cost(config, sizes, ssd, 0, tokens_in, 1);
  for (std::int64_t n = 1; n < tokens_out; ++n) {
    cost += use_cache ? forward_cost(config, sizes, ssd, tokens_in + n - 1, 1, 1)
                      : forward_cost(config, sizes, ssd, 0, tokens_in + n, 1);
  }
  return cost;
}

}  // namespace chunkstate
