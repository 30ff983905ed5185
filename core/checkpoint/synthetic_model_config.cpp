// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "core/checkpoint/mamba1_config.hpp"
#include "core/checkpoint/model_config.hpp"
#include "core/errors.hpp"

namespace chunkstate {
namespace {

struct BambaShape {
  std::int64_t vocab, hidden, intermediate, layers;
  std::initializer_list<std::size_t> attention_layers;
  std::int64_t attention_heads, kv_heads, mamba_heads, mamba_head_dim;
  std::int64_t max_positions;
  bool tied;
};

ModelConfig bamba(const BambaShape& shape) {
  ModelConfig config;
  config.family = "bamba";
  config.vocab_size = shape.vocab;
  config.hidden_size = shape.hidden;
  config.intermediate_size = shape.intermediate;
  config.layers.assign(static_cast<std::size_t>(shape.layers), LayerKind::mamba);
  for (const std::size_t layer : shape.attention_layers) {
    config.layers[layer] = LayerKind::attention;
  }
  config.tie_word_embeddings = shape.tied;
  config.max_position_embeddings = shape.max_positions;
  config.attention_heads = shape.attention_heads;
  config.kv_heads = shape.kv_heads;
  config.attention_head_dim = shape.hidden / shape.attention_heads;
  config.rotary_dim = config.attention_head_dim / 2;
  config.mamba_heads = shape.mamba_heads;
  config.mamba_head_dim = shape.mamba_head_dim;
  config.state_dim = 128;
  config.groups = 1;
  config.conv_taps = 4;
  return config;
}

struct LlamaShape {
  std::int64_t vocab, hidden, intermediate, layers, heads, kv_heads, max_positions;
  bool tied;
};

ModelConfig llama(const LlamaShape& shape) {
  ModelConfig config;
  config.family = "llama";
  config.vocab_size = shape.vocab;
  config.hidden_size = shape.hidden;
  config.intermediate_size = shape.intermediate;
  config.layers.assign(static_cast<std::size_t>(shape.layers), LayerKind::attention);
  config.tie_word_embeddings = shape.tied;
  config.max_position_embeddings = shape.max_positions;
  config.attention_heads = shape.heads;
  config.kv_heads = shape.kv_heads;
  config.attention_head_dim = shape.hidden / shape.heads;
  config.rotary_dim = config.attention_head_dim;
  return config;
}

// Granite 3.1, by its published config.json.
ModelConfig granite_8b() {
  ModelConfig config = llama({49155, 4096, 12800, 40, 32, 8, 131072, true});
  config.family = "granite";
  config.rope_theta = 5e6;
  config.embedding_multiplier = 12.0F;
  config.attention_multiplier = 1.0F / 128;
  config.residual_multiplier = 0.22F;
  config.logits_multiplier = 1.0F / 16;
  return config;
}

// What the sizes of Granite 4.0 H without experts do not share.
struct GraniteHybridShape {
  BambaShape bamba;
  double attention_multiplier, residual_multiplier, logits_scaling;
};

ModelConfig granite_hybrid(const GraniteHybridShape& shape) {
  ModelConfig config = bamba(shape.bamba);
  config.family = "granitemoehybrid";
  config.rotary_dim = 0;
  config.embedding_multiplier = 12.0F;
  config.attention_multiplier = static_cast<float>(shape.attention_multiplier);
  config.residual_multiplier = static_cast<float>(shape.residual_multiplier);
  config.logits_multiplier = static_cast<float>(1.0 / shape.logits_scaling);
  return config;
}

ModelConfig mamba2_2_7b() {
  ModelConfig config;
  config.family = "mamba2";
  config.vocab_size = 50288;  // 50277 and the rows that fill up a multiple of 16
  config.hidden_size = 2560;
  config.layers.assign(64, LayerKind::mamba);
  config.tie_word_embeddings = true;
  config.residual_in_fp32 = true;
  config.mamba_heads = 80;
  config.mamba_head_dim = 64;
  config.state_dim = 128;
  config.groups = 1;
  config.conv_taps = 4;
  return config;
}

struct NamedShape {
  const char* name;
  ModelConfig (*make)();
};

// The published shapes (Bamba-9B with v2's context), and those of experiments/models.
constexpr NamedShape shapes[] = {
    {"bamba-9b",
     [] {
       return bamba({128256, 4096, 14336, 32, {9, 18, 27}, 32, 8, 128, 64, 262144, false});
     }},
    {"bamba-tiny",
     [] {
       return bamba({8192, 256, 704, 8, {3, 7}, 4, 2, 8, 64, 8192, true});
     }},
    {"llama-tiny",
     [] {
       return llama({8192, 320, 896, 8, 5, 5, 8192, true});
     }},
    {"llama-2-7b",
     [] {
       return llama({32000, 4096, 11008, 32, 32, 32, 4096, false});
     }},
    {"llama-2-13b",
     [] {
       return llama({32000, 5120, 13824, 40, 40, 40, 4096, false});
     }},
    {"llama-2-70b",
     [] {
       return llama({32000, 8192, 28672, 80, 64, 8, 4096, false});
     }},
    {"granite-3-8b", granite_8b},
    {"granite-4.0-h-350m",
     [] {
       return granite_hybrid({{100352, 768, 2048, 32, {10, 13, 17, 27}, 12, 4, 48, 32, 32768, true},
                              0.015625,
                              0.246,
                              3});
     }},
    {"granite-4.0-h-1b",
     [] {
       return granite_hybrid(
           {{100352, 1536, 4096, 40, {5, 15, 25, 35}, 12, 4, 48, 64, 131072, true},
            0.0078125,
            0.22,
            6});
     }},
    {"granite-4.0-h-micro",
     [] {
       return granite_hybrid(
           {{100352, 2048, 8192, 40, {5, 15, 25, 35}, 32, 8, 64, 64, 131072, true},
            0.015625,
            0.22,
            8});
     }},
    {"mamba2-2.7b", mamba2_2_7b},
    {"mamba1-lm", mamba1_lm_config},
};

}  // namespace

ModelConfig synthetic_model_config(std::string_view name) {
  std::string known;
  for (const NamedShape& shape : shapes) {
    if (name == shape.name) return shape.make();
    known += (known.empty() ? "" : ", ") + std::string(shape.name);
  }
  throw UsageError("unknown synthetic model '" + std::string(name) + "'; known: " + known);
}

std::vector<std::string> synthetic_model_names() {
  std::vector<std::string> names;
  for (const NamedShape& shape : shapes) names.emplace_back(shape.name);
  return names;
}

}  // namespace chunkstate
