// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace chunkstate {

/// How the families' Hugging Face checkpoints name the same weights. A layer's names follow
/// `layers` and its number; those of what a family does not have are empty.
struct TensorNames {
  const char* embedding = "model.embed_tokens.weight";
  const char* layers = "model.layers.";
  const char* mixer_norm = "input_layernorm.weight";
  const char* mamba = "mamba.";
  const char* attention = "self_attn.";
  const char* mlp_norm = "post_attention_layernorm.weight";
  const char* gate_and_up = "";  // one matrix: gate rows, then up rows
  const char* gate = "mlp.gate_proj.weight";
  const char* up = "mlp.up_proj.weight";
  const char* down = "mlp.down_proj.weight";
  const char* final_norm = "model.norm.weight";
};

inline TensorNames tensor_names(std::string_view family) {
  TensorNames names;
  if (family == "bamba") {
    names.mlp_norm = "pre_ff_layernorm.weight";
    names.gate = "feed_forward.gate_proj.weight";
    names.up = "feed_forward.up_proj.weight";
    names.down = "feed_forward.down_proj.weight";
    names.final_norm = "model.final_layernorm.weight";
  } else if (family == "granitemoehybrid") {
    names.gate_and_up = "shared_mlp.input_linear.weight";
    names.gate = names.up = "";
    names.down = "shared_mlp.output_linear.weight";
  } else if (family == "mamba2") {
    names.embedding = "backbone.embeddings.weight";
    names.layers = "backbone.layers.";
    names.mixer_norm = "norm.weight";
    names.mamba = "mixer.";
    names.final_norm = "backbone.norm_f.weight";
  }
  return names;
}

}  // namespace chunkstate
