// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/checkpoint/model_config.hpp"
#include "core/json_input.hpp"

namespace chunkstate {

// What the families' config.json files have in common. Every function reads some members of the
// object into `config`, checks them, and throws InputError.

// Bounds that no product of two or three sizes can overflow, far above any model of these families.
inline constexpr std::int64_t max_hidden = std::int64_t{1} << 20;
inline constexpr std::int64_t max_width = std::int64_t{1} << 22;
inline constexpr std::int64_t max_layers = 4096;
inline constexpr std::int64_t max_vocab = std::int64_t{1} << 24;
inline constexpr std::int64_t max_heads = std::int64_t{1} << 14;
inline constexpr std::int64_t max_head_dim = std::int64_t{1} << 12;
inline constexpr std::int64_t max_state_dim = std::int64_t{1} << 12;
inline constexpr std::int64_t max_conv_taps = 16;
inline constexpr std::int64_t max_chunk_size = std::int64_t{1} << 20;
inline constexpr std::int64_t max_positions = std::int64_t{1} << 40;

/// The names of members that mean the same in two families, and whether embeddings are tied where
/// the file does not say.
struct CommonKeys {
  const char* intermediate = "intermediate_size";  // nullptr: the family has no MLP
  const char* eps = "rms_norm_eps";
  bool absent_tie = false;
};
void read_common(const JsonObject& object, const CommonKeys& keys, double absent_eps,
                 ModelConfig& config);

/// attn_layer_indices, layer_types, both if they agree, or neither: `absent` for all layers.
void read_layers(const JsonObject& object, LayerKind absent, ModelConfig& config);

/// Heads, and the base of rotary positions. The rotated width is set by the family, then checked.
void read_attention(const JsonObject& object, bool explicit_head_dim, ModelConfig& config);
void read_rotary(const JsonObject& object, std::int64_t rotary_dim, ModelConfig& config);

struct MambaKeys {
  const char* heads = "mamba_n_heads";
  const char* head_dim = "mamba_d_head";
  const char* state_dim = "mamba_d_state";
  const char* groups = "mamba_n_groups";
  const char* taps = "mamba_d_conv";
  const char* expand = "mamba_expand";
  const char* chunk_size = "mamba_chunk_size";
  const char* conv_bias = "mamba_conv_bias";
  const char* projection_bias = "mamba_proj_bias";
  std::int64_t absent_groups = 1;
};
void read_mamba(const JsonObject& object, const MambaKeys& keys, ModelConfig& config);

/// Granite's four numbers.
void read_multipliers(const JsonObject& object, ModelConfig& config);

}  // namespace chunkstate
