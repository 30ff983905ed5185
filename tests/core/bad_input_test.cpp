// SPDX-License-Identifier: Apache-2.0
// Bad model folders: every row ends with one clear line, as an InputError, in under a second.

#include <sys/stat.h>

#include <ctime>
#include <functional>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/checkpoint.hpp"
#include "core/errors.hpp"
#include "core/input_file.hpp"
#include "core/tokenizer.hpp"
#include "tests/catch.hpp"
#include "tests/core/input_builders.hpp"

namespace chunkstate {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::string four(4, '\0');

/// What a row does in an empty folder.
using Action = std::function<void(const TemporaryFolder&)>;

struct Row {
  int item;  // of the bad-input catalogue; 0: beyond it
  const char* what;
  Action action;
  const char* message;  // a part of what the error must say
};

/// Writes `bytes` as the weights and opens them.
Action weights(const std::string& bytes) {
  return [bytes](const TemporaryFolder& folder) {
    folder.write("model.safetensors", bytes);
    open_safetensors(folder.path());
  };
}

Action header(const std::string& text, const std::string& data = four) {
  return weights(raw_safetensors(text, data));
}

/// One or two F32 tensors of these shapes and offsets.
Action one(const std::string& shape, const std::string& offsets, const std::string& data = four,
           const std::string& dtype = "F32") {
  return weights(safetensors_file({tensor_entry("a", dtype, shape, offsets)}, data));
}

Action two(const std::string& offsets_a, const std::string& offsets_b, std::size_t bytes) {
  return weights(safetensors_file(
      {tensor_entry("a", "F32", "[1]", offsets_a), tensor_entry("b", "F32", "[1]", offsets_b)},
      std::string(bytes, '\0')));
}

/// Opens good weights `a` of one element and asks for them as `extents`.
Action used(const std::string& dtype, const std::string& data, const std::string& name,
            const std::vector<std::int64_t>& extents) {
  return [=](const TemporaryFolder& folder) {
    folder.write("model.safetensors",
                 safetensors_file({tensor_entry("a", dtype, "[1]", "[0,4]")}, data));
    open_safetensors(folder.path())->tensor(name, extents);
  };
}

/// Two shards `one` (tensor a) and `two` (tensor b), and this index.
Action index(const std::string& text) {
  return [text](const TemporaryFolder& folder) {
    folder.write("one", safetensors_file({tensor_entry("a", "F32", "[1]", "[0,4]")}, four));
    folder.write("two", safetensors_file({tensor_entry("b", "F32", "[1]", "[0,4]")}, four));
    folder.write("both", safetensors_file({tensor_entry("a", "F32", "[1]", "[0,4]"),
                                           tensor_entry("b", "F32", "[1]", "[4,8]")},
                                          four + four));
    fs::create_symlink("/etc/passwd", folder.path() / "link");
    folder.write("model.safetensors.index.json", text);
    open_safetensors(folder.path());
  };
}

Action config_text(const std::string& text) {
  return [text](const TemporaryFolder& folder) {
    read_model_config(folder.write("config.json", text));
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

json small_tokenizer() {
  return json::parse(
      read_input_file(std::string(CHUNKSTATE_SOURCE_DIR) +
                          "/tests/golden/tokenizer-ignore-merges-true/tokenizer.json",
                      1 << 20));
}

Action tokenizer_text(const std::string& text, const std::string& encoded = "") {
  return [text, encoded](const TemporaryFolder& folder) {
    read_tokenizer(folder.write("tokenizer.json", text), 300).encode(encoded, true);
  };
}

/// A small tokenizer (264 ids) with the members of `patch` in place of its own.
Action tokenizer(const std::string& patch, const std::string& encoded = "") {
  json document = small_tokenizer();
  document.merge_patch(json::parse(patch));
  return tokenizer_text(document.dump(), encoded);
}

/// A tokenizer with byte fallback (700 ids) with the members of `patch` in place of its own.
Action fallback(const std::string& patch, const std::string& encoded = "") {
  json document = json::parse(read_input_file(
      std::string(CHUNKSTATE_SOURCE_DIR) + "/tests/golden/tokenizer-sentencepiece/tokenizer.json",
      1 << 20));
  document.merge_patch(json::parse(patch));
  return [text = document.dump(), encoded](const TemporaryFolder& folder) {
    read_tokenizer(folder.write("tokenizer.json", text), 700).encode(encoded, true);
  };
}

Action added_token(const std::string& members) {
  json token = {{"id", 264}, {"content", "<x>"}, {"special", true}};
  token.merge_patch(json::parse(members));
  json document = small_tokenizer();
  document["added_tokens"] = json::array({token});
  return tokenizer_text(document.dump());
}

Action split(const std::string& pattern, const std::string& encoded = "") {
  json document = small_tokenizer();
  document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern;
  return tokenizer_text(document.dump(), encoded);
}

std::string repeated(const std::string& text, std::size_t count) {
  std::string result;
  for (std::size_t i = 0; i < count; ++i) result += text;
  return result;
}

std::string many_tensors(std::size_t count) {
  std::string text = "{";
  for (std::size_t i = 0; i < count; ++i) {
    const std::string begin = std::to_string(4 * i);
    text +=
        tensor_entry(std::to_string(i), "F32", "[1]",
                     "[" + begin + "," + std::to_string(4 * i + (i + 1 == count ? 5 : 4)) + "]");
    text += i + 1 == count ? "}" : ",";
  }
  return raw_safetensors(text, std::string(4 * count, '\0'));
}

void run(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    INFO("item " << row.item << ": " << row.what);
    const TemporaryFolder folder;
    const std::clock_t begin = std::clock();  // of the processor: other processes do not count
    const std::string message = message_of<InputError>([&] { row.action(folder); });
    const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    CAPTURE(message);
    CHECK(contains(message, row.message));
    CHECK_FALSE(contains(message, "\n"));
    CHECK(message.size() < 600);
    CHECK(seconds < 1.0);
  }
}

const std::string good = tensor_entry("a", "F32", "[1]", "[0,4]");
const std::string lfs =
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 19232664\n";

}  // namespace

TEST_CASE("bad safetensors containers end with one clear message") {
  run({
      {49, "0 bytes", weights(""), "model.safetensors: has 0 bytes, expected at least 8"},
      {49, "7 bytes", weights("1234567"), "has 7 bytes, expected at least 8"},
      {50, "header length 0", weights(std::string(8, '\0')),
       "length is 0, expected 1 to 100000000"},
      {51, "header over 100 MB", weights(little_endian(100'000'001) + "{}"), "length is 100000001"},
      {52, "header length 2^64-1", weights(std::string(8, '\xFF')),
       "length is 18446744073709551615"},
      {53, "header beyond the file", weights(little_endian(9) + "{}"), "only 2 bytes follow"},
      {54, "header not JSON", header("{\"a\" 1}"), "byte 13: the header is not JSON"},
      {54, "header a list", header("[1]"), "byte 8: the header starts with '[', expected '{'"},
      {54, "tensor not an object", header("{\"a\":1}"), "tensor 'a': holds a number"},
      {54, "deep nesting", header("{\"a\":" + repeated("[", 100000) + "}"), "holds an array"},
      {55, "garbage behind the header", header("{" + good + "} x"), "ends with 'x'"},
      {55, "newline behind the header", header("{" + good + "}\n"), "ends with '?', expected '}'"},
      {55, "two objects", header("{" + good + "}{}"), "the header is not JSON"},
      {56, "offsets reversed", one("[1]", "[4,0]"), "data_offsets [4, 0]: begin is after end"},
      {57, "overlap", two("[0,4]", "[2,6]", 6), "'b': data_offsets [2, 6] overlap tensor 'a'"},
      {57, "same data twice", two("[0,4]", "[0,4]", 4), "overlap"},
      {58, "hole", two("[0,4]", "[8,12]", 12), "leave a hole: expected to begin at 4"},
      {58, "hole at the start", one("[1]", "[4,8]", four + four), "expected to begin at 0"},
      {59, "beyond the end", one("[2]", "[0,8]"), "end is beyond the 4 bytes of data"},
      {59, "offset 2^64-1", one("[1]", "[0,18446744073709551615]"), "end is beyond"},
      {60, "file longer than its data", one("[1]", "[0,4]", four + "x"), "1 bytes follow the last"},
      {61, "shape product overflows", one("[4194305,4194305,211106198978564]", "[0,4]"),
       "tensor 'a': the product of its shape overflows"},
      {62, "shape times dtype is not the bytes", one("[2]", "[0,4]"), "hold 4 bytes, expected 8"},
      {63, "negative extent", one("[-1]", "[0,4]"), "tensor 'a': holds -1"},
      {63, "fractional extent", one("[1.5]", "[0,4]"), "holds 1.5"},
      {63, "text as extent", one("[\"1\"]", "[0,4]"), "holds '1'"},
      {63, "extent 2^63", one("[9223372036854775808]", "[0,4]"), "expected less than 2^63"},
      {63, "extent 1e400", one("[1e400]", "[0,4]"), "the header is not JSON"},
      {63, "17 extents", one("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,4]"), "more than 16"},
      {63, "three offsets", one("[1]", "[0,4,8]"), "data_offsets has not two elements"},
      {63, "one offset", one("[1]", "[0]"), "data_offsets has not two elements"},
      {64, "unknown dtype", one("[1]", "[0,4]", four, "F31"), "unknown dtype 'F31'; known: BOOL"},
      {64, "dtype a number", header(R"({"a":{"dtype":4}})"), "tensor 'a': holds a number"},
      {64, "no dtype", header(R"({"a":{"shape":[],"data_offsets":[0,4]}})"), "dtype is missing"},
      {65, "tensor twice", header("{" + good + "," + good + "}"), "tensor 'a' appears twice"},
      {65, "key twice", header(R"({"a":{"dtype":"F32","dtype":"F32"}})"), "'dtype' appears twice"},
      {65, "unknown key", header(R"({"a":{"device":"cpu"}})"), "unknown key 'device'"},
      {66, "empty tensor inside another",
       weights(safetensors_file({good, tensor_entry("z", "F32", "[0]", "[2,2]")}, four)),
       "overlap"},
      {67, "100,000 tensors, the last one bad", weights(many_tensors(100000)), "tensor '99999'"},
      {68, "metadata not a string", header(R"({"__metadata__":{"x":1}})"), "__metadata__: holds"},
      {68, "metadata twice", header(R"({"__metadata__":{},"__metadata__":{}})"), "appears twice"},
      {71, "all NaN, F32", used("F32", "\xFF\xFF\xFF\x7F", "a", {1}),
       "all of its elements are NaN"},
      {72, "Git LFS pointer", weights(lfs), "is a Git LFS pointer (73 bytes of text)"},
      {76, "missing tensor", used("F32", four, "b", {1}),
       "model.safetensors: tensor 'b' is missing"},
      {80, "shape differs from the config", used("F32", four, "a", {2}),
       "tensor 'a': has shape [1], expected [2] from config.json"},
      {0, "dtype that cannot be used", used("I32", four, "a", {1}), "has dtype I32, expected F32"},
      {0, "invalid UTF-8 in a name", header("{\"\xC3(\":1}"), "the header is not JSON"},
  });
}

TEST_CASE("bad model folders end with one clear message") {
  run({
      {26, "folder without weights", [](const auto& f) { open_safetensors(f.path()); },
       "model.safetensors: cannot be read: No such file"},
      {26, "FIFO as weights",
       [](const auto& f) {
         ::mkfifo((f.path() / "model.safetensors").c_str(), 0600);
         open_safetensors(f.path());
       },
       "is a FIFO, expected a regular file"},
      {26, "folder as weights",
       [](const auto& f) {
         fs::create_directory(f.path() / "model.safetensors");
         open_safetensors(f.path());
       },
       "is a directory, expected a regular file"},
      {26, "device as config", [](const auto&) { read_model_config("/dev/zero"); },
       "/dev/zero: is a character device"},
      {73, "missing shard", index(R"({"weight_map": {"a": "one", "b": "three"}})"),
       "shard 'three' cannot be read: No such file"},
      {74, "shard outside", index(R"({"weight_map": {"a": "../../etc/x"}})"),
       "shard '../../etc/x' is not a plain file name"},
      {74, "absolute shard", index(R"({"weight_map": {"a": "/etc/passwd"}})"),
       "not a plain file name"},
      {74, "shard ..", index(R"({"weight_map": {"a": ".."}})"), "shard '..' is not a plain"},
      {74, "NUL in a shard", index(R"({"weight_map": {"a": "one\u0000x"}})"),
       "not a plain file name"},
      {74, "link out of the folder", index(R"({"weight_map": {"a": "link"}})"),
       "shard 'link' is a link out of the folder, to /etc/passwd"},
      {75, "tensor in two shards", index(R"({"weight_map": {"a": "one", "b": "both"}})"),
       "tensor 'a' is also in"},
      {75, "tensor in another shard", index(R"({"weight_map": {"a": "one", "b": "one"}})"),
       "weight_map: tensor 'b' is not in"},
      {0, "index without weight_map", index("{}"), "index.json: weight_map is missing"},
      {0, "index with a number", index(R"({"weight_map": {"a": 1}})"),
       "a is 1, expected a file name"},
      {0, "empty weight_map", index(R"({"weight_map": {}})"), "names 0 shards, expected 1 to 4096"},
      {0, "key twice in the index", index(R"({"weight_map": {}, "weight_map": {}})"),
       "appears twice"},
      {76, "missing layer",
       [](const auto& f) {
         f.write("model.safetensors", safetensors_file({good}, four));
         check_weights(*open_safetensors(f.path()), synthetic_model_config("bamba-tiny"));
       },
       "tensor 'model.embed_tokens.weight' is missing"},
      {80, "vocab_size differs from the embedding's rows",
       [](const auto&) {
         ModelConfig config = synthetic_model_config("bamba-tiny");
         config.vocab_size = 8191;
         check_weights(*open_safetensors(std::string(CHUNKSTATE_SOURCE_DIR) +
                                         "/experiments/models/bamba-tiny"),
                       config);
       },
       "'model.embed_tokens.weight': has shape [8192, 256], expected [8191, 256]"},
  });
}

TEST_CASE("bad configs end with one clear message") {
  run({
      {77, "missing", [](const auto& f) { read_model_config(f.path() / "config.json"); },
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
      {82, "no architecture", config(R"({"model_type": null})"), "model_type is missing"},
      {82, "activation", config(R"({"hidden_act": "gelu"})"), "hidden_act 'gelu' is not supported"},
      {82, "attention bias", config(R"({"attention_bias": true})"), "attention_bias true is not"},
  });
}

TEST_CASE("bad tokenizers end with one clear message") {
  const std::string rest = R"(, "merges": []}})";
  run({
      {83, "500 MB",
       [](const auto& f) {
         fs::resize_file(f.write("tokenizer.json", "{"), 500'000'000);
         read_tokenizer(f.path() / "tokenizer.json");
       },
       "tokenizer.json: has 500000000 bytes, expected at most 67108864"},
      {83, "empty object", tokenizer_text("{}"), "tokenizer.json: pre_tokenizer is missing"},
      {83, "Git LFS pointer", tokenizer_text(lfs), "tokenizer.json: is a Git LFS pointer"},
      {84, "merge of an absent token", tokenizer(R"({"model": {"merges": [["h", "qq"]]}})"),
       "model: merges: merge 0: token 'qq' is not in vocab"},
      {84, "merge into an absent token",
       tokenizer(R"({"model": {"merges": [["h","e"],["q", "q"]]}})"),
       "merge 1: the merged token 'qq' is not in vocab"},
      {84, "merge of three", tokenizer(R"({"model": {"merges": [["h", "e", "l"]]}})"),
       "merge 0 is an array of 3 elements, expected [\"a\", \"b\"] or \"a b\""},
      {84, "merge without a space", tokenizer(R"({"model": {"merges": ["he"]}})"),
       "merge 0 is \"he\""},
      {85, "one id for two tokens", tokenizer(R"({"model": {"vocab": {"\"": 0}}})"),
       "model: vocab: id 0 belongs to '!' and to '\"'"},
      {85, "one token twice", tokenizer_text(R"({"model": {"vocab": {"a": 0, "a": 1})" + rest),
       "key 'a' appears twice"},
      {85, "id beyond the model's vocab_size", tokenizer(R"({"model": {"vocab": {"lo": 300}}})"),
       "id of 'lo' is 300, expected an integer from 0 to 299"},
      {85, "negative id", tokenizer(R"({"model": {"vocab": {"lo": -1}}})"), "id of 'lo' is -1"},
      {85, "fractional id", tokenizer(R"({"model": {"vocab": {"lo": 1.5}}})"), "id of 'lo' is 1.5"},
      {85, "added id beyond vocab_size", added_token(R"({"id": 4000000000})"),
       "added_tokens: id of '<x>' is 4000000000"},
      {85, "added id of another token", added_token(R"({"id": 5})"), "belongs to another token"},
      {85, "added token with another id", added_token(R"({"content": "he"})"),
       "id of 'he' is 264, but vocab or an earlier entry says 256"},
      {86, "byte_fallback with bad byte tokens",
       tokenizer(R"({"model": {"byte_fallback": true, "vocab": {"<0x-1>": 264, "<0xZZ>": 265}}})"),
       "pre_tokenizer is an object, expected null where the model has byte_fallback"},
      {87, "catastrophic expression", split("(a+)+$", std::string(60, 'a') + "!"),
       "pre_tokenizer: the split expression fails at byte 0 of a text: match limit exceeded"},
      {87, "catastrophic alternatives", split("(a|aa)+$", std::string(5000, 'a') + "!"), "limit"},
      {87, "not an expression", split("(a"), "pre_tokenizer: '(a' is not a regular expression"},
      {87, "huge repetition", split("((((a{1,999}){1,999}){1,999}){1,999})"), "not a regular"},
      {87, "deep parentheses", split(repeated("(", 5000)), "not a regular expression"},
      {87, "long expression", split(std::string(20000, 'a')), "has 20000 bytes, expected at most"},
      {87, "Ruby's \\h", split("a\\h"), "byte 1: \\h is not supported in a split expression"},
      {87, "class in a class", split("[a[b]]"), "a class within a class is not supported"},
      {88, "empty added token", added_token(R"({"content": ""})"), "content is empty"},
      {88, "added token lstrip", added_token(R"({"lstrip": true})"), "'<x>': lstrip true is not"},
      {88, "added token of 2 KB", added_token("{\"content\": \"" + std::string(2000, 'x') + "\"}"),
       "has 2000 bytes, expected at most 1024"},
      {89, "unknown normalizer", tokenizer(R"({"normalizer": {"type": "NFC"}})"),
       "normalizer: type 'NFC' is not supported, expected null"},
      {89, "normalizer in a sequence",
       tokenizer(R"({"normalizer": {"type": "Sequence", "normalizers": [{"type": "Lowercase"}]}})"),
       "normalizer: type 'Lowercase' is not supported"},
      {89, "deep normalizer",
       tokenizer_text("{\"normalizer\": " +
                      repeated(R"({"type": "Sequence", "normalizers": [)", 10000)),
       "nested deeper than 32 levels"},
      {89, "unknown model", tokenizer(R"({"model": {"type": "Unigram"}})"),
       "type 'Unigram' is not"},
      {89, "unknown decoder", tokenizer(R"({"decoder": {"type": "Metaspace"}})"),
       "'Metaspace' is not"},
      {89, "unknown pre_tokenizer", tokenizer(R"({"pre_tokenizer": {"type": "Whitespace"}})"),
       "pre_tokenizer: type 'Whitespace' is not supported, expected Sequence, Split, Digits or "
       "ByteLevel"},
      {89, "unknown post_processor", tokenizer(R"({"post_processor": {"type": "BertProcessing"}})"),
       "post_processor: type 'BertProcessing' is not supported"},
      {89, "truncation", tokenizer(R"({"truncation": {"max_length": 5}})"),
       "truncation is an object"},
      {86, "byte tokens that are missing, and no unk_token",
       fallback(R"({"model": {"unk_token": null, "vocab": {"<0xF0>": null}}})", "\U0001F600"),
       "the vocabulary has no token for '\U0001F600', nor for each of its bytes"},
      {86, "unk_token that is no token", fallback(R"({"model": {"unk_token": "<?>"}})"),
       "model: unk_token '<?>' is not in vocab"},
      {86, "ignore_merges with byte_fallback", fallback(R"({"model": {"ignore_merges": true}})"),
       "model: ignore_merges true with byte_fallback is not supported"},
      {89, "byte_fallback with another normalizer",
       fallback(R"({"normalizer": {"type": "Precompiled"}})"),
       "normalizer: type 'Precompiled' is not supported, expected Sequence, Prepend or Replace"},
      {89, "normalizer that replaces an expression",
       fallback(R"({"normalizer": {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "b",
                    "normalizers": null}})"),
       "normalizer: pattern: String is missing"},
      {89, "normalizer that lengthens a text",
       fallback("{\"normalizer\": {\"type\": \"Prepend\", \"prepend\": \"" +
                std::string(2000, 'x') + "\"}}"),
       "content has 2000 bytes, expected at most 16"},
      {89, "normalizer of many steps",
       fallback("{\"normalizer\": {\"normalizers\": [" +
                repeated(R"({"type": "Prepend", "prepend": "x"},)", 9) +
                R"({"type": "Prepend", "prepend": "x"}]}})"),
       "is the normalizer's step 5, expected at most 4"},
      {89, "byte_fallback with another decoder",
       fallback(R"({"decoder": {"type": "Metaspace", "decoders": null}})"),
       "decoder: type 'Metaspace' is not supported, expected a Sequence of Replace, ByteFallback"},
      {89, "byte_fallback with half a decoder",
       fallback(R"({"decoder": {"decoders": [{"type": "Fuse"}]}})"),
       "decoders is an array of 1 elements, expected Replace, ByteFallback, Fuse and Strip"},
      {90, "template with an unknown token",
       tokenizer(R"({"post_processor": {"type": "TemplateProcessing", "special_tokens": {},
                     "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]}})"),
       "special_tokens: <s> is missing"},
      {90, "template without the text",
       tokenizer(R"({"post_processor": {"type": "TemplateProcessing", "single": []}})"),
       "single has no Sequence, expected one"},
      {0, "byte without a token",
       tokenizer(R"({"model": {"vocab": {"!": null}, "merges": []}})", "a!"),
       "the vocabulary has no token for byte 33"},
  });
}

TEST_CASE("a chat template is not executed") {
  json document = small_tokenizer();
  document["chat_template"] = "{% for i in range(10 ** 18) %}x{% endfor %}";
  const Tokenizer tokenizer(document.dump(), "tokenizer.json");
  CHECK(tokenizer.encode("he", false) == std::vector<std::int32_t>{256});
}

TEST_CASE("a weight that is not all NaN is usable") {
  const TemporaryFolder folder;
  folder.write("model.safetensors", safetensors_file({tensor_entry("a", "F32", "[2]", "[0,8]")},
                                                     std::string("\xFF\xFF\xFF\x7F", 4) + four));
  CHECK(open_safetensors(folder.path())->tensor("a", {2}).extents.size() == 1);
}

}  // namespace chunkstate
