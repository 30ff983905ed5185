// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "core/checkpoint/mamba1_config.hpp"
#include "core/checkpoint/model_config.hpp"
#include "core/checkpoint/tensor_names.hpp"

namespace chunkstate {
namespace {

using Tensors = std::vector<std::pair<std::string, std::vector<std::int64_t>>>;

void add_attention(const ModelConfig& config, const std::string& attention, Tensors& tensors) {
  const std::int64_t query = config.attention_heads * config.attention_head_dim;
  const std::int64_t key = config.kv_heads * config.attention_head_dim;
  tensors.push_back({attention + "q_proj.weight", {query, config.hidden_size}});
  tensors.push_back({attention + "k_proj.weight", {key, config.hidden_size}});
  tensors.push_back({attention + "v_proj.weight", {key, config.hidden_size}});
  tensors.push_back({attention + "o_proj.weight", {config.hidden_size, query}});
}

void add_mamba(const ModelConfig& config, const std::string& mamba, Tensors& tensors) {
  const bool bias = config.projection_bias;
  tensors.push_back({mamba + "in_proj.weight", {config.in_proj_size(), config.hidden_size}});
  if (bias) tensors.push_back({mamba + "in_proj.bias", {config.in_proj_size()}});
  tensors.push_back({mamba + "conv1d.weight", {config.conv_channels(), 1, config.conv_taps}});
  if (config.conv_bias) tensors.push_back({mamba + "conv1d.bias", {config.conv_channels()}});
  tensors.push_back({mamba + "dt_bias", {config.mamba_heads}});
  tensors.push_back({mamba + "A_log", {config.mamba_heads}});
  tensors.push_back({mamba + "D", {config.mamba_heads}});
  tensors.push_back({mamba + "norm.weight", {config.inner_size()}});
  tensors.push_back({mamba + "out_proj.weight", {config.hidden_size, config.inner_size()}});
  if (bias) tensors.push_back({mamba + "out_proj.bias", {config.hidden_size}});
}

void add_mlp(const ModelConfig& config, const std::string& layer, const TensorNames& names,
             Tensors& tensors) {
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t intermediate = config.intermediate_size;
  tensors.push_back({layer + names.mlp_norm, {hidden}});
  if (*names.gate_and_up != 0) {
    tensors.push_back({layer + names.gate_and_up, {2 * intermediate, hidden}});
  } else {
    tensors.push_back({layer + names.gate, {intermediate, hidden}});
    tensors.push_back({layer + names.up, {intermediate, hidden}});
  }
  tensors.push_back({layer + names.down, {hidden, intermediate}});
}

}  // namespace

Tensors expected_tensors(const ModelConfig& config) {
  if (config.family == "mamba1") return mamba1_tensors(config);
  const TensorNames names = tensor_names(config.family);
  const std::int64_t hidden = config.hidden_size;
  Tensors tensors;
  tensors.push_back({names.embedding, {config.vocab_size, hidden}});
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const std::string layer = names.layers + std::to_string(i) + ".";
    tensors.push_back({layer + names.mixer_norm, {hidden}});
    if (config.layers[i] == LayerKind::mamba) {
      add_mamba(config, layer + names.mamba, tensors);
    } else {
      add_attention(config, layer + names.attention, tensors);
    }
    if (config.has_mlp()) add_mlp(config, layer, names, tensors);
  }
  tensors.push_back({names.final_norm, {hidden}});
  if (!config.tie_word_embeddings) {
    tensors.push_back({"lm_head.weight", {config.vocab_size, hidden}});
  }
  return tensors;
}

std::int64_t ModelConfig::parameters() const {
  std::int64_t total = 0;
  for (const auto& [name, extents] : expected_tensors(*this)) {
    std::int64_t elements = 1;
    for (const std::int64_t extent : extents) elements *= extent;
    total += elements;
  }
  return total;
}

}  // namespace chunkstate
