// SPDX-License-Identifier: Apache-2.0
#include "core/weights.hpp"

namespace chunkstate {

void Weights::load_mamba1(const ModelConfig& config) {
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t inner = config.inner_size();
  embedding = matrix("backbone.embeddings.weight", config.vocab_size, hidden);
  streamed_bytes_ = 0;  // a pass reads single rows of the table only
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const std::string layer = "backbone.layers." + std::to_string(i) + ".";
    const std::string mixer = layer + "mixer.";
    Mamba1Weights w;
    w.norm = vector(layer + "norm.weight", hidden);
    w.in_proj = matrix(mixer + "in_proj.weight", 2 * inner, hidden);
    w.conv = conv_matrix(mixer + "conv1d.weight", inner, config.conv_taps);
    if (config.conv_bias) w.conv_bias = vector(mixer + "conv1d.bias", inner);
    w.x_proj = matrix(mixer + "x_proj.weight", config.dt_rank + 2 * config.state_dim, inner);
    w.dt_proj = matrix(mixer + "dt_proj.weight", inner, config.dt_rank);
    w.dt_bias = small_fp32(mixer + "dt_proj.bias", inner, false);
    w.A = {fp32_values(mixer + "A_log", {inner, config.state_dim}, true),
           {inner, config.state_dim}};
    w.D = small_fp32(mixer + "D", inner, false);
    w.out_proj = matrix(mixer + "out_proj.weight", hidden, inner);
    if (config.projection_bias) {
      w.in_proj_bias = vector(mixer + "in_proj.bias", 2 * inner);
      w.out_proj_bias = vector(mixer + "out_proj.bias", hidden);
    }
    mamba1_layers.push_back(w);
  }
  final_norm = vector("backbone.norm_f.weight", hidden);
  if (config.tie_word_embeddings) {
    lm_head = embedding;
    streamed_bytes_ += static_cast<double>(config.vocab_size * hidden) *
                       static_cast<double>(bytes_of(embedding.dtype));
  } else {
    lm_head = matrix("lm_head.weight", config.vocab_size, hidden);
  }
}

}  // namespace chunkstate
