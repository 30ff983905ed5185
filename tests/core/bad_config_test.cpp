// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "core/input_file.hpp"
#include "core/open_model.hpp"
#include "tests/core/bad_model_rows.hpp"

namespace chunkstate {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

Action config_text(const std::string& text) {
  return [text](const TemporaryFolder& folder) {
    folder.write("config.json", text);
    open_model({folder.path()});
  };
}

/// The shipped config of `model` with the members of `patch` in place of its own (null removes).
Action config(const std::string& patch, const std::string& model = "bamba-tiny") {
  json document = json::parse(read_input_file(
      std::string(CHUNKSTATE_SOURCE_DIR) + "/experiments/models/" + model + "/config.json",
      1 << 20));
  document.merge_patch(json::parse(patch));
  return config_text(document.dump());
}

}  // namespace

TEST_CASE("bad configs end with one clear message") {
  run({
      {77, "missing", [](const auto& f) { open_model({f.path()}); },
       "config.json: cannot be read: No such file"},
      {77, "empty", config_text(""), "config.json: parse error at line 1, column 1"},
      {77, "not an object", config_text("[]"), "is an array of 0 elements, expected an object"},
      {77, "hidden_size 0", config(R"({"hidden_size": 0})"),
       "hidden_size is 0, expected an integer from 1 to 1048576"},
      {77, "hidden_size missing", config(R"({"hidden_size": null})"), "hidden_size is missing"},
      {77, "hidden_size text", config(R"({"hidden_size": "256"})"), "hidden_size is \"256\""},
      {77, "hidden_size 2^64",
       config_text(R"({"model_type":"llama","vocab_size":18446744073709551616})"),
       "vocab_size is 1.84"},
      {77, "negative vocab_size", config(R"({"vocab_size": -1})"), "vocab_size is -1"},
      {77, "key twice", config_text(R"({"model_type": "llama", "model_type": "bamba"})"),
       "key 'model_type' appears twice"},
      {77, "cut off", config_text(R"({"model_type": "bam)"), "config.json: parse error at line 1"},
      {77, "text behind it", config_text("{} {}"), "config.json: parse error"},
      {77, "invalid UTF-8", config_text("{\"model_type\": \"\xFF\"}"), "config.json: parse error"},
      {77, "number 1e9999", config_text(R"({"rope_theta": 1e9999})"), "number overflow"},
      {77, "deep nesting", config_text(repeated("[", 100000)), "nested deeper than 32 levels"},
      {77, "2 MB", config_text(std::string(2 << 20, ' ')), "has 2097152 bytes, expected at most"},
      {77, "Git LFS pointer", config_text(lfs), "config.json: is a Git LFS pointer"},
      {78, "heads do not divide hidden_size", config(R"({"num_attention_heads": 3})"),
       "num_key_value_heads 2 does not divide num_attention_heads 3"},
      {78, "heads do not divide hidden_size",
       config(R"({"num_attention_heads": 6, "num_key_value_heads": 2})"),
       "num_attention_heads 6 does not divide hidden_size 256"},
      {78, "more kv heads than heads", config(R"({"num_key_value_heads": 8})"), "from 1 to 4"},
      {78, "odd rotary width", config(R"({"num_attention_heads": 128, "num_key_value_heads": 1})"),
       "leaves 1 rotary elements"},
      {78, "mamba heads do not fill the width", config(R"({"mamba_n_heads": 7})"),
       "mamba_n_heads 7 x mamba_d_head 64 is not mamba_expand x hidden_size = 512"},
      {78, "groups do not divide heads", config(R"({"mamba_n_groups": 3})"),
       "mamba_n_groups 3 does not divide mamba_n_heads 8"},
      {79, "10^9 layers", config(R"({"num_hidden_layers": 1000000000})"),
       "num_hidden_layers is 1000000000, expected an integer from 1 to 4096"},
      {79, "layers 8.5", config(R"({"num_hidden_layers": 8.5})"), "num_hidden_layers is 8.5"},
      {79, "attention layer beyond the last", config(R"({"attn_layer_indices": [3, 8]})"),
       "attn_layer_indices: element is 8, expected an integer from 0 to 7"},
      {79, "layer_types too short", config(R"({"layer_types": ["mamba"]})"), "expected 8 elements"},
      {79, "mamba layer in llama",
       config(R"({"num_hidden_layers": 1, "layer_types": ["mamba"]})", "llama-tiny"),
       "attention layers only"},
      {81, "rope_theta 0", config(R"({"rope_theta": 0, "rope_parameters": null})"),
       "rope_theta is 0.0, expected a number above 0"},
      {81, "rope_theta NaN", config_text(R"({"rope_theta": NaN})"), "config.json: parse error"},
      {81, "rope_theta infinite",
       config_text(
           R"({"model_type": "llama", "vocab_size": 8, "hidden_size": 8, "intermediate_size": 8,
                       "num_hidden_layers": 1, "num_attention_heads": 1, "rope_theta": Infinity})"),
       "rope_theta is 1e+308, expected"},
      {81, "rope scaling", config(R"({"rope_scaling": {"type": "linear", "factor": 2}})"),
       "rope_scaling: type 'linear' is not supported, expected 'default'"},
      {81, "eps negative", config(R"({"rms_norm_eps": -1})"), "rms_norm_eps is -1.0"},
      {81, "time_step_limit reversed", config(R"({"time_step_limit": [0.4, 0.1]})"),
       "time_step_limit is [0.4, 0.1], expected the first element below the second"},
      {81, "time_step_limit of one", config(R"({"time_step_limit": [0.4]})"),
       "expected two elements"},
      {82, "unknown architecture", config(R"({"model_type": "mistral"})"),
       "model_type 'mistral' is not supported; supported: bamba, granite, "
       "granitemoehybrid, llama, mamba, mamba2"},
      {82, "experts", config(R"({"model_type": "granitemoehybrid", "shared_intermediate_size": 8,
                  "num_local_experts": 64})"),
       "num_local_experts is 64, expected 0: layers with experts are not supported"},
      {82, "experts that nobody names",
       config(R"({"model_type": "granitemoehybrid", "shared_intermediate_size": 8})"),
       "num_local_experts is 8 where it is absent, expected 0"},
      {82, "positions of another kind",
       config(R"({"model_type": "granitemoehybrid", "shared_intermediate_size": 8,
                  "num_local_experts": 0, "position_embedding_type": "alibi"})"),
       "position_embedding_type 'alibi' is not supported, expected 'nope', 'rope' or null"},
      {82, "another norm",
       config(R"({"model_type": "granitemoehybrid", "shared_intermediate_size": 8,
                  "num_local_experts": 0, "normalization_function": "layernorm"})"),
       "normalization_function 'layernorm' is not supported"},
      {82, "attention in mamba2",
       config(R"({"model_type": "mamba2", "num_hidden_layers": 1, "attn_layer_indices": [0]})"),
       "this architecture has mamba layers only"},
      {82, "heads of mamba2 do not fill the width",
       config(R"({"model_type": "mamba2", "num_heads": 3, "head_dim": 64, "state_size": 8,
                  "attn_layer_indices": null})"),
       "num_heads 3 x head_dim 64 is not expand x hidden_size = 512"},
      {81, "multiplier 0", config(R"({"model_type": "granite", "attn_layer_indices": null,
                  "residual_multiplier": 0})"),
       "residual_multiplier is 0.0, expected a number from 1e-6 to 1e6"},
      {82, "quantised weights", config(R"({"quantization_config": {"bits": 4}})"),
       "quantization_config is an object"},
      {82, "quantised weights of mamba",
       config(R"({"model_type": "mamba", "quantization_config": {"bits": 4}})"),
       "quantization_config is an object"},
      {82, "no architecture", config(R"({"model_type": null})"), "model_type is missing"},
      {82, "activation", config(R"({"hidden_act": "gelu"})"), "hidden_act 'gelu' is not supported"},
      {82, "attention bias", config(R"({"attention_bias": true})"), "attention_bias true is not"},
  });
}

}  // namespace chunkstate
