// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/model_config.hpp"

#include <limits>
#include <string>

#include "core/errors.hpp"
#include "core/input_file.hpp"
#include "tests/catch.hpp"
#include "tests/core/input_builders.hpp"

namespace chunkstate {
namespace {

ModelConfig shipped(const std::string& model) {
  const std::string file =
      std::string(CHUNKSTATE_SOURCE_DIR) + "/experiments/models/" + model + "/config.json";
  return parse_model_config(read_input_file(file, 1 << 20), file);
}

/// A small bamba config with `members` in place of the defaults of the same name (members come
/// first).
std::string bamba_json(const std::string& members) {
  return R"({"model_type": "bamba", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24,
             "num_hidden_layers": 3, "num_attention_heads": 4, "mamba_n_heads": 4,
             "mamba_d_state": 8)" +
         (members.empty() ? "" : ", " + members) + "}";
}

ModelConfig bamba(const std::string& members) {
  return parse_model_config(bamba_json(members), "config.json");
}

ModelConfig llama(const std::string& members) {
  return parse_model_config(
      R"({"model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24,
          "num_hidden_layers": 2, "num_attention_heads": 4)" +
          (members.empty() ? "" : ", " + members) + "}",
      "config.json");
}

void check_same(const ModelConfig& a, const ModelConfig& b) {
  CHECK(a.family == b.family);
  CHECK(a.layers == b.layers);
  CHECK(a.parameters() == b.parameters());
  CHECK(a.rotary_dim == b.rotary_dim);
  CHECK(a.rope_theta == b.rope_theta);
  CHECK(a.rms_norm_eps == b.rms_norm_eps);
  CHECK(a.chunk_size == b.chunk_size);
  CHECK(a.dt_min == b.dt_min);
  CHECK(a.dt_max == b.dt_max);
  CHECK(a.max_position_embeddings == b.max_position_embeddings);
  CHECK(expected_tensors(a) == expected_tensors(b));
}

}  // namespace

TEST_CASE("parameter counts equal the published ones") {
  CHECK(synthetic_model_config("bamba-9b").parameters() == 9'780'235'392);
  CHECK(expected_tensors(synthetic_model_config("bamba-9b")).size() == 407);
  CHECK(synthetic_model_config("llama-2-7b").parameters() == 6'738'415'616);
  CHECK(expected_tensors(synthetic_model_config("llama-2-7b")).size() == 291);
  CHECK(synthetic_model_config("llama-2-13b").parameters() == 13'015'864'320);
  CHECK(synthetic_model_config("llama-2-70b").parameters() == 68'976'648'192);
  CHECK(synthetic_model_config("granite-3-8b").parameters() == 8'170'848'256);
  CHECK(synthetic_model_config("granite-4.0-h-350m").parameters() == 340'332'224);
  CHECK(synthetic_model_config("granite-4.0-h-1b").parameters() == 1'461'538'368);
  CHECK(synthetic_model_config("granite-4.0-h-micro").parameters() == 3'191'396'096);
  CHECK(synthetic_model_config("mamba2-2.7b").parameters() == 2'702'599'680);
  CHECK(synthetic_model_config("bamba-tiny").parameters() == 9'611'152);
  CHECK(synthetic_model_config("llama-tiny").parameters() == 12'784'960);
}

TEST_CASE("the synthetic tiny shapes are those of the shipped models") {
  check_same(synthetic_model_config("bamba-tiny"), shipped("bamba-tiny"));
  check_same(synthetic_model_config("llama-tiny"), shipped("llama-tiny"));
}

TEST_CASE("an unknown synthetic name lists the known ones") {
  CHECK(message_of<UsageError>([] { synthetic_model_config("bamba-10b"); }) ==
        "unknown synthetic model 'bamba-10b'; known: bamba-9b, bamba-tiny, llama-tiny, llama-2-7b, "
        "llama-2-13b, llama-2-70b, granite-3-8b, granite-4.0-h-350m, granite-4.0-h-1b, "
        "granite-4.0-h-micro, mamba2-2.7b, mamba1-lm");
}

TEST_CASE("bamba rotates half of each head whatever its config says") {
  CHECK(bamba("").attention_head_dim == 4);
  CHECK(bamba("").rotary_dim == 2);
  CHECK(bamba(R"("partial_rotary_factor": 1.0, "attn_rotary_emb": 4)").rotary_dim == 2);
  CHECK(llama(R"("partial_rotary_factor": 0.5)").rotary_dim == 4);
  CHECK(llama(R"("head_dim": 8)").attention_head_dim == 8);
  CHECK(llama(R"("head_dim": 8)").rotary_dim == 8);
}

TEST_CASE("granite's multipliers are 1 where they are absent, and its scores' is not a root") {
  const std::string shape = R"("vocab_size": 32, "hidden_size": 16, "intermediate_size": 24,
      "num_hidden_layers": 2, "num_attention_heads": 4)";
  const auto granite = [&](const std::string& members) {
    return parse_model_config("{\"model_type\": \"granite\", " + shape + members + "}", "");
  };
  CHECK(llama("").attention_scale() == 0.5F);
  CHECK(granite("").attention_scale() == 1.0F);
  CHECK(granite("").residual_multiplier == 1.0F);
  const ModelConfig full = granite(R"(, "embedding_multiplier": 12, "attention_multiplier": 0.25,
      "residual_multiplier": 0.22, "logits_scaling": 16.0)");
  CHECK(full.embedding_multiplier == 12.0F);
  CHECK(full.attention_scale() == 0.25F);
  CHECK(full.residual_multiplier == 0.22F);
  CHECK(full.logits_multiplier == 0.0625F);
  CHECK(full.rotary_dim == 4);
}

TEST_CASE(
    "granitemoehybrid has positions only if it says so, and mamba only where it has such layers") {
  const auto hybrid = [](const std::string& members) {
    return parse_model_config(
        R"({"model_type": "granitemoehybrid", "vocab_size": 32, "hidden_size": 16,
            "shared_intermediate_size": 24, "intermediate_size": 7, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_local_experts": 0, )" +
            members + "}",
        "");
  };
  const std::string mamba = R"("mamba_n_heads": 4, "mamba_d_state": 8)";
  CHECK(hybrid(mamba).rotary_dim == 0);
  CHECK(hybrid(mamba + R"(, "position_embedding_type": "nope")").rotary_dim == 0);
  CHECK(hybrid(mamba + R"(, "position_embedding_type": "rope")").rotary_dim == 4);
  CHECK(hybrid(mamba).layers == std::vector<LayerKind>(2, LayerKind::mamba));
  CHECK(hybrid(mamba).intermediate_size == 24);
  const ModelConfig attention = hybrid(R"("layer_types": ["attention", "full_attention"])");
  CHECK(attention.layers == std::vector<LayerKind>(2, LayerKind::attention));
  CHECK(attention.in_proj_size() == 0);
}

TEST_CASE("mamba2 has no MLP, and 8 groups where it says nothing") {
  const auto mamba2 = [](const std::string& members) {
    return parse_model_config(
        R"({"model_type": "mamba2", "vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2,
            "num_heads": 8, "head_dim": 4, "state_size": 8)" +
            members + "}",
        "");
  };
  CHECK(mamba2("").groups == 8);
  CHECK(mamba2("").norm_groups == 8);
  CHECK(mamba2("").residual_in_fp32);
  CHECK_FALSE(mamba2("").has_mlp());
  const ModelConfig other =
      mamba2(R"(, "n_groups": 1, "residual_in_fp32": false, "layer_norm_epsilon": 0.5)");
  CHECK(other.norm_groups == 1);
  CHECK_FALSE(other.residual_in_fp32);
  CHECK(other.rms_norm_eps == 0.5F);
  CHECK(expected_tensors(other).at(1).first == "backbone.layers.0.norm.weight");
}

TEST_CASE("rope_theta comes from rope_parameters, then from the flat key, then is 10000") {
  CHECK(llama("").rope_theta == 10000.0);
  CHECK(llama(R"("rope_theta": 500)").rope_theta == 500.0);
  CHECK(llama(R"("rope_theta": 500, "rope_parameters": {"rope_theta": 700.5})").rope_theta ==
        700.5);
  CHECK(llama(R"("rope_theta": 500, "rope_parameters": {"rope_type": "default"})").rope_theta ==
        500.0);
  CHECK(llama(R"("rope_scaling": null)").rope_theta == 10000.0);
}

TEST_CASE("layers are mamba unless attn_layer_indices or layer_types say otherwise") {
  using K = LayerKind;
  CHECK(bamba("").layers == std::vector<K>(3, K::mamba));
  CHECK(bamba(R"("attn_layer_indices": null)").layers == std::vector<K>(3, K::mamba));
  CHECK(bamba(R"("attn_layer_indices": [1])").layers ==
        std::vector<K>{K::mamba, K::attention, K::mamba});
  CHECK(bamba(R"("layer_types": ["linear_attention", "mamba", "full_attention"])").layers ==
        std::vector<K>{K::mamba, K::mamba, K::attention});
  CHECK(bamba(R"("attn_layer_indices": [2], "layer_types": ["mamba", "mamba", "attention"])")
            .layers.back() == K::attention);
  CHECK(llama("").layers == std::vector<K>(2, K::attention));
}

TEST_CASE("time_step_limit has three forms for infinity") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(bamba("").dt_max == infinity);
  CHECK(bamba(R"("time_step_limit": [0.0, Infinity])").dt_max == infinity);
  CHECK(bamba(R"("time_step_limit": [0.05, {"__float__": "Infinity"}])").dt_max == infinity);
  CHECK(bamba(R"("time_step_limit": [0.05, {"__float__": "Infinity"}])").dt_min == 0.05F);
  CHECK(bamba(R"("time_step_limit": [0.05, 0.4])").dt_max == 0.4F);
  CHECK(bamba(R"("_name_or_path": "to \"Infinity, and\\", "time_step_limit": [0, Infinity])")
            .dt_max == infinity);
}

TEST_CASE("sizes that may be left out have the families' values") {
  CHECK(bamba("").kv_heads == 4);
  CHECK(bamba("").mamba_head_dim == 8);
  CHECK(bamba(R"("mamba_d_head": "auto", "mamba_expand": 3)").mamba_head_dim == 12);
  CHECK(bamba("").conv_taps == 4);
  CHECK(bamba("").chunk_size == 256);
  CHECK(bamba("").conv_bias);
  CHECK_FALSE(bamba("").projection_bias);
  CHECK_FALSE(bamba("").tie_word_embeddings);
  CHECK(bamba("").rms_norm_eps == 1e-5F);
  CHECK(llama("").rms_norm_eps == 1e-6F);
}

TEST_CASE("optional weights follow the flags") {
  const auto has = [](const ModelConfig& config, const std::string& name) {
    for (const auto& tensor : expected_tensors(config)) {
      if (tensor.first == name) return true;
    }
    return false;
  };
  const ModelConfig with = bamba(R"("mamba_proj_bias": true, "mamba_conv_bias": false,
                                    "tie_word_embeddings": true)");
  CHECK(has(with, "model.layers.0.mamba.in_proj.bias"));
  CHECK(has(with, "model.layers.0.mamba.out_proj.bias"));
  CHECK_FALSE(has(with, "model.layers.0.mamba.conv1d.bias"));
  CHECK_FALSE(has(with, "lm_head.weight"));
  CHECK_FALSE(has(bamba(""), "model.layers.0.mamba.in_proj.bias"));
  CHECK(has(bamba(""), "model.layers.0.mamba.conv1d.bias"));
  CHECK(has(bamba(""), "lm_head.weight"));
}

}  // namespace chunkstate
