// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/mamba1_config.hpp"

#include <string>

#include "core/checkpoint/config_members.hpp"

namespace chunkstate {
namespace {

void set_inner_size(ModelConfig& config, std::int64_t inner) {
  config.mamba_heads = inner;
  config.mamba_head_dim = 1;
  config.groups = 0;
}

/// ceil(hidden / 16), which transformers writes for "auto".
std::int64_t read_dt_rank(const JsonObject& object, const ModelConfig& config) {
  const std::int64_t automatic = (config.hidden_size + 15) / 16;
  const nlohmann::json* rank = object.find("time_step_rank");
  if (rank == nullptr || *rank == "auto") return automatic;
  return object.integer("time_step_rank", 1, max_width);
}

}  // namespace

ModelConfig read_mamba1_config(const JsonObject& object) {
  ModelConfig config;
  config.family = "mamba1";
  read_common(object, {.intermediate = nullptr, .eps = "layer_norm_epsilon", .absent_tie = true},
              1e-5, config);
  const std::int64_t layers = object.integer("num_hidden_layers", 1, max_layers);
  config.layers.assign(static_cast<std::size_t>(layers), LayerKind::mamba);
  const std::int64_t inner = object.integer_or("expand", 2, 1, 64) * config.hidden_size;
  const std::int64_t stated = object.integer_or("intermediate_size", inner, 1, max_width);
  if (stated != inner || inner > max_width) {
    object.fail("intermediate_size " + std::to_string(stated) +
                " is not expand x hidden_size = " + std::to_string(inner));
  }
  set_inner_size(config, inner);
  config.state_dim = object.integer_or("state_size", 16, 1, max_state_dim);
  config.conv_taps = object.integer_or("conv_kernel", 4, 1, max_conv_taps);
  config.conv_bias = object.boolean_or("use_conv_bias", true);
  config.projection_bias = object.boolean_or("use_bias", false);
  config.dt_rank = read_dt_rank(object, config);
  return config;
}

ModelConfig mamba1_lm_config() {
  ModelConfig config;
  config.family = "mamba1";
  config.vocab_size = 16384;
  config.hidden_size = 1024;
  config.layers.assign(8, LayerKind::mamba);
  set_inner_size(config, 1024);
  config.state_dim = 16;
  config.conv_taps = 4;
  config.dt_rank = 64;
  return config;
}

std::vector<std::pair<std::string, std::vector<std::int64_t>>> mamba1_tensors(
    const ModelConfig& config) {
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t inner = config.inner_size();
  std::vector<std::pair<std::string, std::vector<std::int64_t>>> tensors;
  tensors.push_back({"backbone.embeddings.weight", {config.vocab_size, hidden}});
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const std::string layer = "backbone.layers." + std::to_string(i) + ".";
    const std::string mixer = layer + "mixer.";
    tensors.push_back({layer + "norm.weight", {hidden}});
    tensors.push_back({mixer + "in_proj.weight", {2 * inner, hidden}});
    if (config.projection_bias) tensors.push_back({mixer + "in_proj.bias", {2 * inner}});
    tensors.push_back({mixer + "conv1d.weight", {inner, 1, config.conv_taps}});
    if (config.conv_bias) tensors.push_back({mixer + "conv1d.bias", {inner}});
    tensors.push_back({mixer + "x_proj.weight", {config.dt_rank + 2 * config.state_dim, inner}});
    tensors.push_back({mixer + "dt_proj.weight", {inner, config.dt_rank}});
    tensors.push_back({mixer + "dt_proj.bias", {inner}});
    tensors.push_back({mixer + "A_log", {inner, config.state_dim}});
    tensors.push_back({mixer + "D", {inner}});
    tensors.push_back({mixer + "out_proj.weight", {hidden, inner}});
    if (config.projection_bias) tensors.push_back({mixer + "out_proj.bias", {hidden}});
  }
  tensors.push_back({"backbone.norm_f.weight", {hidden}});
  if (!config.tie_word_embeddings) {
    tensors.push_back({"lm_head.weight", {config.vocab_size, hidden}});
  }
  return tensors;
}

}  // namespace chunkstate
