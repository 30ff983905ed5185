// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>

#include "core/errors.hpp"
#include "core/mamba1.hpp"
#include "core/model_config.hpp"

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

struct NamedShape {
  const char* name;
  ModelConfig (*make)();
};

// The published shapes of Bamba-9B-v1 and Llama-2, and those of experiments/models.
constexpr NamedShape shapes[] = {
    {"bamba-9b",
     [] {
       return bamba({128256, 4096, 14336, 32, {9, 18, 27}, 32, 8, 128, 64, 4096, false});
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
