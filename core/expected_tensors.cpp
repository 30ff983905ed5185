// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "core/mamba1.hpp"
#include "core/model_config.hpp"

namespace chunkstate {
namespace {

using Tensors = std::vector<std::pair<std::string, std::vector<std::int64_t>>>;

void add_attention(const ModelConfig& config, const std::string& layer, Tensors& tensors) {
  const std::int64_t query = config.attention_heads * config.attention_head_dim;
  const std::int64_t key = config.kv_heads * config.attention_head_dim;
  tensors.push_back({layer + "self_attn.q_proj.weight", {query, config.hidden_size}});
  tensors.push_back({layer + "self_attn.k_proj.weight", {key, config.hidden_size}});
  tensors.push_back({layer + "self_attn.v_proj.weight", {key, config.hidden_size}});
  tensors.push_back({layer + "self_attn.o_proj.weight", {config.hidden_size, query}});
}

void add_mamba(const ModelConfig& config, const std::string& layer, Tensors& tensors) {
  const std::string mamba = layer + "mamba.";
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

}  // namespace

Tensors expected_tensors(const ModelConfig& config) {
  if (config.family == "mamba1") return mamba1_tensors(config);
  const bool bamba = config.family == "bamba";
  const std::int64_t hidden = config.hidden_size;
  Tensors tensors;
  tensors.push_back({"model.embed_tokens.weight", {config.vocab_size, hidden}});
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    tensors.push_back({layer + "input_layernorm.weight", {hidden}});
    if (config.layers[i] == LayerKind::mamba) {
      add_mamba(config, layer, tensors);
    } else {
      add_attention(config, layer, tensors);
    }
    const std::string mlp = layer + (bamba ? "feed_forward." : "mlp.");
    tensors.push_back(
        {layer + (bamba ? "pre_ff_layernorm.weight" : "post_attention_layernorm.weight"),
         {hidden}});
    tensors.push_back({mlp + "gate_proj.weight", {config.intermediate_size, hidden}});
    tensors.push_back({mlp + "up_proj.weight", {config.intermediate_size, hidden}});
    tensors.push_back({mlp + "down_proj.weight", {hidden, config.intermediate_size}});
  }
  tensors.push_back({bamba ? "model.final_layernorm.weight" : "model.norm.weight", {hidden}});
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
