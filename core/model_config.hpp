// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace chunkstate {

enum class LayerKind : std::uint8_t { mamba, attention };

/// The shape of a model, checked: every size is positive and within limits, heads divide evenly.
/// One struct for all families; a family without mamba layers leaves their fields at zero.
struct ModelConfig {
  std::string family;  // "bamba", "llama" (config.json's model_type), or "mamba1" ("mamba")
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::vector<LayerKind> layers;
  float rms_norm_eps = 1e-5F;
  bool tie_word_embeddings = false;
  std::int64_t max_position_embeddings = 0;  // 0: not stated

  // attention
  std::int64_t attention_heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t attention_head_dim = 0;
  std::int64_t rotary_dim = 0;  // leading elements of a head that are rotated, even
  double rope_theta = 10000.0;

  // mamba; inner width = mamba_heads * mamba_head_dim
  std::int64_t mamba_heads = 0;
  std::int64_t mamba_head_dim = 0;
  std::int64_t state_dim = 0;
  std::int64_t groups = 0;
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

  /// Parameters (tied ones counted once), from the shapes alone.
  std::int64_t parameters() const;
};

/// Name and shape of every weight that `config` needs, in the order in which a forward pass reads
/// them, by the Hugging Face names of its family. Without lm_head.weight if the embedding is tied.
std::vector<std::pair<std::string, std::vector<std::int64_t>>> expected_tensors(
    const ModelConfig& config);

/// Reads the bytes of a config.json of model_type "bamba", "llama" or "mamba". `file` is used in
/// messages only. Keys that do not change the shape or the mathematics are ignored. Throws
/// InputError.
ModelConfig parse_model_config(std::string_view json, const std::string& file);
/// The same of a file of at most 1 MiB.
ModelConfig read_model_config(const std::filesystem::path& file);

/// The shapes known by name: "bamba-9b", "bamba-tiny", "llama-tiny", "llama-2-7b", "llama-2-13b",
/// "llama-2-70b", "mamba1-lm". Throws UsageError that lists the names.
ModelConfig synthetic_model_config(std::string_view name);
std::vector<std::string> synthetic_model_names();

}  // namespace chunkstate
