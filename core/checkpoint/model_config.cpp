// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/model_config.hpp"

#include <algorithm>

#include "core/checkpoint/config_members.hpp"
#include "core/checkpoint/mamba1_config.hpp"
#include "core/errors.hpp"
#include "core/json_input.hpp"
#include "core/utf8.hpp"

namespace chunkstate {
namespace {

/// The bare token Infinity (Python's json writes it) as a number that reads as infinite in fp32;
/// byte offsets stay.
std::string with_finite_infinity(std::string_view text) {
  constexpr std::string_view token = "Infinity";
  std::string result(text);
  bool in_string = false;
  for (std::size_t i = 0; i < result.size(); ++i) {
    if (in_string) {
      if (result[i] == '\\') {
        ++i;
      } else if (result[i] == '"') {
        in_string = false;
      }
    } else if (result[i] == '"') {
      in_string = true;
    } else if (result.compare(i, token.size(), token) == 0) {
      result.replace(i, token.size(), "1e308   ");
    }
  }
  return result;
}

ModelConfig read_bamba(const JsonObject& object) {
  ModelConfig config;
  read_common(object, {}, 1e-5, config);
  read_layers(object, LayerKind::mamba, config);
  read_attention(object, false, config);
  // The family's definition: half of each head, whatever partial_rotary_factor or attn_rotary_emb
  // say.
  read_rotary(object, config.attention_head_dim / 2, config);
  read_mamba(object, {}, config);
  return config;
}

ModelConfig read_llama(const JsonObject& object) {
  ModelConfig config;
  read_common(object, {}, 1e-6, config);
  read_layers(object, LayerKind::attention, config);
  read_attention(object, true, config);
  read_rotary(object, config.attention_head_dim, config);
  return config;
}

// Granite 3: llama and four multipliers.
ModelConfig read_granite(const JsonObject& object) {
  ModelConfig config = read_llama(object);
  read_multipliers(object, config);
  return config;
}

// Granite 4: any mixture of mamba and attention layers, and granite's multipliers.
ModelConfig read_granite_hybrid(const JsonObject& object) {
  ModelConfig config;
  read_common(object, {.intermediate = "shared_intermediate_size"}, 1e-6, config);
  // The class takes 8 experts for an absent key.
  const std::int64_t experts = object.integer_or("num_local_experts", 8, 0, 1 << 20);
  if (experts > 0) {
    object.fail("num_local_experts is " + std::to_string(experts) +
                (object.find("num_local_experts") == nullptr ? " where it is absent" : "") +
                ", expected 0: layers with experts are not supported");
  }
  const std::string normalization = object.string_or("normalization_function", "rmsnorm");
  if (normalization != "rmsnorm") {
    object.fail("normalization_function '" + printable(normalization) +
                "' is not supported, expected 'rmsnorm'");
  }
  read_layers(object, LayerKind::mamba, config);
  read_attention(object, true, config);
  const std::string positions = object.string_or("position_embedding_type", "nope");
  if (positions == "rope") {
    read_rotary(object, config.attention_head_dim, config);
  } else if (positions != "nope") {
    object.fail("position_embedding_type '" + printable(positions) +
                "' is not supported, expected 'nope', 'rope' or null");
  }
  const bool has_mamba = std::find(config.layers.begin(), config.layers.end(), LayerKind::mamba) !=
                         config.layers.end();
  if (has_mamba) read_mamba(object, {}, config);
  config.norm_groups = has_mamba ? config.groups : 1;
  read_multipliers(object, config);
  return config;
}

ModelConfig read_mamba2(const JsonObject& object) {
  ModelConfig config;
  read_common(object, {.intermediate = nullptr, .eps = "layer_norm_epsilon"}, 1e-5, config);
  read_layers(object, LayerKind::mamba, config);
  if (std::find(config.layers.begin(), config.layers.end(), LayerKind::attention) !=
      config.layers.end()) {
    object.fail("this architecture has mamba layers only");
  }
  read_mamba(object,
             {.heads = "num_heads",
              .head_dim = "head_dim",
              .state_dim = "state_size",
              .groups = "n_groups",
              .taps = "conv_kernel",
              .expand = "expand",
              .chunk_size = "chunk_size",
              .conv_bias = "use_conv_bias",
              .projection_bias = "use_bias",
              .absent_groups = 8},
             config);
  config.norm_groups = config.groups;
  config.residual_in_fp32 = object.boolean_or("residual_in_fp32", true);
  return config;
}

struct Family {
  const char* name;
  ModelConfig (*read)(const JsonObject& object);
};
constexpr Family families[] = {
    {"bamba", read_bamba}, {"granite", read_granite},     {"granitemoehybrid", read_granite_hybrid},
    {"llama", read_llama}, {"mamba", read_mamba1_config}, {"mamba2", read_mamba2}};

}  // namespace

std::string model_families() {
  std::string names;
  for (const Family& family : families) {
    names += (names.empty() ? "" : ", ") + std::string(family.name);
  }
  return names;
}

ModelConfig parse_model_config(std::string_view text, const std::string& file) {
  const nlohmann::json document = parse_json(with_finite_infinity(text), file);
  const JsonObject object(document, file);
  const std::string& type = object.string("model_type");
  for (const Family& family : families) {
    if (type != family.name) continue;
    ModelConfig config = family.read(object);
    if (config.family.empty()) config.family = type;
    return config;
  }
  object.fail("model_type '" + printable(type) +
              "' is not supported; supported: " + model_families());
}

}  // namespace chunkstate
