// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace chunkstate {

enum class LayerKind : std::uint8_t { mamba, attention };

/// The shape of a model, checked: every size is positive and within limits, heads divide evenly.
/// One struct for all families: a model without mamba layers, attention or MLPs leaves their fields
/// at zero, and what only one family does differently is a number here.
struct ModelConfig {
  std::string family;  // config.json's model_type, one of model_families(); "mamba1" for "mamba"
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;  // 0: layers have no MLP
  std::vector<LayerKind> layers;
  float rms_norm_eps = 1e-5F;
  bool tie_word_embeddings = false;
  std::int64_t max_position_embeddings = 0;  // 0: not stated
  bool residual_in_fp32 = false;             // whatever the type of activations
  float embedding_multiplier = 1.0F;
  float residual_multiplier = 1.0F;   // of what a mixer or MLP adds to the residual
  float logits_multiplier = 1.0F;     // 1 / config.json's logits_scaling
  float attention_multiplier = 0.0F;  // of the scores; 0: 1 / sqrt(attention_head_dim)

  // attention
  std::int64_t attention_heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t attention_head_dim = 0;
  std::int64_t rotary_dim = 0;  // leading elements of a head that are rotated, even; 0: none
  double rope_theta = 10000.0;

  // mamba; inner width = mamba_heads * mamba_head_dim
  std::int64_t mamba_heads = 0;
  std::int64_t mamba_head_dim = 0;
  std::int64_t state_dim = 0;
  std::int64_t groups = 0;
  std::int64_t norm_groups = 1;  // of the gated norm
  std::int64_t conv_taps = 0;
  std::int64_t chunk_size = 256;  // the model's own, used unless the user states another
  bool conv_bias = true;
  bool projection_bias = false;
  std::int64_t dt_rank = 0;  // mamba1 only: the step size's inner width
  float dt_min = 0.0F;
  float dt_max = std::numeric_limits<float>::infinity();

  std::int64_t inner_size() const { return mamba_heads * mamba_head_dim; }
  std::int64_t conv_channels() const { return inner_size() + 2 * groups * state_dim; }
  std::int64_t in_proj_size() const { return inner_size() + conv_channels() + mamba_heads; }
  bool has_mlp() const { return intermediate_size > 0; }
  float attention_scale() const {
    return attention_multiplier > 0.0F ? attention_multiplier
                                       : 1.0F / std::sqrt(static_cast<float>(attention_head_dim));
  }

  /// Parameters (tied ones counted once), from the shapes alone.
  std::int64_t parameters() const;
};

/// Name and shape of every weight that `config` needs, in the order in which a forward pass reads
/// them, by the Hugging Face names of its family. Without lm_head.weight if the embedding is tied.
std::vector<std::pair<std::string, std::vector<std::int64_t>>> expected_tensors(
    const ModelConfig& config);

/// Reads the bytes of a config.json of one of model_families(). `file` is used in messages only.
/// Keys that change neither the shape nor the mathematics are ignored; what would change them and
/// is not built in (experts, biases, scaled rotary positions, quantised weights) is refused by
/// name. Throws InputError.
ModelConfig parse_model_config(std::string_view json, const std::string& file);
/// "bamba, granite, granitemoehybrid, llama, mamba, mamba2".
std::string model_families();

/// The published shapes known by name, and those of experiments/models: synthetic_model_names().
/// Throws UsageError that lists the names.
ModelConfig synthetic_model_config(std::string_view name);
std::vector<std::string> synthetic_model_names();

}  // namespace chunkstate
