// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/config_members.hpp"

#include <initializer_list>
#include <limits>

#include "core/utf8.hpp"

namespace chunkstate {
namespace {

using nlohmann::json;

float time_step(const JsonObject& object, const json& element) {
  const json* value = &element;
  if (element.is_object() && element.size() == 1 && element.contains("__float__")) {
    value = &element["__float__"];
    if (*value == "Infinity") return std::numeric_limits<float>::infinity();
  }
  if (!value->is_number() || value->get<double>() < 0.0) {
    object.fail("time_step_limit", *value,
                "two elements, each a number >= 0, Infinity or {\"__float__\": \"Infinity\"}");
  }
  const double number = value->get<double>();
  return number > static_cast<double>(std::numeric_limits<float>::max())
             ? std::numeric_limits<float>::infinity()
             : static_cast<float>(number);
}

void read_time_step_limit(const JsonObject& object, ModelConfig& config) {
  if (object.find("time_step_limit") == nullptr) return;
  const json& limit = object.array("time_step_limit", 2);
  if (limit.size() != 2) object.fail("time_step_limit", limit, "two elements");
  config.dt_min = time_step(object, limit[0]);
  config.dt_max = time_step(object, limit[1]);
  if (!(config.dt_min < config.dt_max)) {
    object.fail("time_step_limit is [" + limit[0].dump() + ", " + limit[1].dump() +
                "], expected the first element below the second");
  }
}

void refuse_rope_scaling(const JsonObject& object) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const json* member = object.find(key);
    if (member == nullptr) continue;
    const JsonObject scaling(*member, object.where() + ": " + key);
    for (const char* type_key : {"rope_type", "type"}) {
      const std::string type = scaling.string_or(type_key, "default");
      if (type != "default") {
        scaling.fail(std::string(type_key) + " '" + printable(type) +
                     "' is not supported, expected 'default'");
      }
    }
  }
}

double rope_theta(const JsonObject& object) {
  double theta = object.number_or("rope_theta", 10000.0);
  if (const json* parameters = object.find("rope_parameters")) {
    theta = JsonObject(*parameters, object.where() + ": rope_parameters")
                .number_or("rope_theta", theta);
  }
  if (!(theta > 0.0) || theta > 1e30) {
    object.fail("rope_theta", json(theta), "a number above 0, at most 1e30");
  }
  return theta;
}

LayerKind layer_kind(const JsonObject& object, const json& name) {
  if (name == "mamba" || name == "linear_attention") return LayerKind::mamba;
  if (name == "attention" || name == "full_attention") return LayerKind::attention;
  object.fail("layer_types", name, "'mamba', 'linear_attention', 'attention' or 'full_attention'");
}

}  // namespace

void read_common(const JsonObject& object, const CommonKeys& keys, double absent_eps,
                 ModelConfig& config) {
  config.vocab_size = object.integer("vocab_size", 1, max_vocab);
  config.hidden_size = object.integer("hidden_size", 1, max_hidden);
  if (keys.intermediate != nullptr) {
    config.intermediate_size = object.integer(keys.intermediate, 1, max_width);
  }
  const double eps = object.number_or(keys.eps, absent_eps);
  if (!(eps >= 0.0) || eps > 1.0) object.fail(keys.eps, json(eps), "a number from 0 to 1");
  config.rms_norm_eps = static_cast<float>(eps);
  config.tie_word_embeddings = object.boolean_or("tie_word_embeddings", keys.absent_tie);
  config.max_position_embeddings =
      object.integer_or("max_position_embeddings", 0, 0, max_positions);
  const std::string activation = object.string_or("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {
    object.fail("hidden_act '" + printable(activation) + "' is not supported, expected 'silu'");
  }
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    if (object.boolean_or(key, false)) {
      object.fail(std::string(key) + " true is not supported, expected false");
    }
  }
  if (const json* quantization = object.find("quantization_config")) {
    object.fail("quantization_config", *quantization, "null: quantised weights are not supported");
  }
}

void read_layers(const JsonObject& object, LayerKind absent, ModelConfig& config) {
  const std::int64_t count = object.integer("num_hidden_layers", 1, max_layers);
  config.layers.assign(static_cast<std::size_t>(count), absent);
  const bool has_indices =
      absent == LayerKind::mamba && object.find("attn_layer_indices") != nullptr;
  if (has_indices) {
    for (const json& element : object.array("attn_layer_indices", max_layers)) {
      const std::int64_t layer =
          checked_integer(element, object.where() + ": attn_layer_indices: element", 0, count - 1);
      config.layers[static_cast<std::size_t>(layer)] = LayerKind::attention;
    }
  }
  if (object.find("layer_types") == nullptr) return;
  const json& types = object.array("layer_types", max_layers);
  if (types.size() != config.layers.size()) {
    object.fail("layer_types", types, std::to_string(count) + " elements (num_hidden_layers)");
  }
  for (std::size_t i = 0; i < types.size(); ++i) {
    const LayerKind kind = layer_kind(object, types[i]);
    const bool may_differ = absent == LayerKind::mamba && !has_indices;
    if (kind != config.layers[i] && !may_differ) {
      object.fail("layer_types names layer " + std::to_string(i) + " " + types[i].dump() +
                  (has_indices ? ", attn_layer_indices says otherwise"
                               : ", this architecture has attention layers only"));
    }
    config.layers[i] = kind;
  }
}

void read_attention(const JsonObject& object, bool explicit_head_dim, ModelConfig& config) {
  config.attention_heads = object.integer("num_attention_heads", 1, max_heads);
  config.kv_heads =
      object.integer_or("num_key_value_heads", config.attention_heads, 1, config.attention_heads);
  if (config.attention_heads % config.kv_heads != 0) {
    object.fail("num_key_value_heads " + std::to_string(config.kv_heads) +
                " does not divide num_attention_heads " + std::to_string(config.attention_heads));
  }
  if (explicit_head_dim && object.find("head_dim") != nullptr) {
    config.attention_head_dim = object.integer("head_dim", 1, max_head_dim);
  } else if (config.hidden_size % config.attention_heads != 0) {
    object.fail("num_attention_heads " + std::to_string(config.attention_heads) +
                " does not divide hidden_size " + std::to_string(config.hidden_size));
  } else {
    config.attention_head_dim = config.hidden_size / config.attention_heads;
  }
}

void read_rotary(const JsonObject& object, std::int64_t rotary_dim, ModelConfig& config) {
  refuse_rope_scaling(object);
  config.rope_theta = rope_theta(object);
  if (rotary_dim < 2 || rotary_dim % 2 != 0) {
    object.fail("the attention head dim " + std::to_string(config.attention_head_dim) + " leaves " +
                std::to_string(rotary_dim) + " rotary elements, expected an even number above 0");
  }
  config.rotary_dim = rotary_dim;
}

void read_mamba(const JsonObject& object, const MambaKeys& keys, ModelConfig& config) {
  const std::int64_t expand = object.integer_or(keys.expand, 2, 1, 64);
  const std::int64_t inner = expand * config.hidden_size;
  config.mamba_heads = object.integer(keys.heads, 1, max_heads);
  const json* head_dim = object.find(keys.head_dim);
  if (head_dim == nullptr || *head_dim == "auto") {
    config.mamba_head_dim = inner / config.mamba_heads;
  } else {
    config.mamba_head_dim = object.integer(keys.head_dim, 1, max_head_dim);
  }
  if (config.inner_size() != inner || config.mamba_head_dim > max_head_dim) {
    object.fail(std::string(keys.heads) + " " + std::to_string(config.mamba_heads) + " x " +
                keys.head_dim + " " + std::to_string(config.mamba_head_dim) + " is not " +
                keys.expand + " x hidden_size = " + std::to_string(inner));
  }
  config.state_dim = object.integer(keys.state_dim, 1, max_state_dim);
  config.groups = object.integer_or(keys.groups, keys.absent_groups, 1, max_heads);
  if (config.mamba_heads % config.groups != 0) {
    object.fail(std::string(keys.groups) + " " + std::to_string(config.groups) +
                " does not divide " + keys.heads + " " + std::to_string(config.mamba_heads));
  }
  config.conv_taps = object.integer_or(keys.taps, 4, 1, max_conv_taps);
  config.chunk_size = object.integer_or(keys.chunk_size, 256, 1, max_chunk_size);
  config.conv_bias = object.boolean_or(keys.conv_bias, true);
  config.projection_bias = object.boolean_or(keys.projection_bias, false);
  read_time_step_limit(object, config);
}

void read_multipliers(const JsonObject& object, ModelConfig& config) {
  const auto read = [&](const char* key) {
    const double value = object.number_or(key, 1.0);
    if (!(value >= 1e-6) || value > 1e6) {
      object.fail(key, json(value), "a number from 1e-6 to 1e6");
    }
    return value;
  };
  config.embedding_multiplier = static_cast<float>(read("embedding_multiplier"));
  config.attention_multiplier = static_cast<float>(read("attention_multiplier"));
  config.residual_multiplier = static_cast<float>(read("residual_multiplier"));
  config.logits_multiplier = static_cast<float>(1.0 / read("logits_scaling"));
}

}  // namespace chunkstate
