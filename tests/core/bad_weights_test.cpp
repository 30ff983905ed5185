// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include "core/checkpoint/checkpoint.hpp"
#include "core/open_model.hpp"
#include "tests/core/bad_model_rows.hpp"

namespace chunkstate {
namespace {

namespace fs = std::filesystem;

const std::string four(4, '\0');

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

const std::string good = tensor_entry("a", "F32", "[1]", "[0,4]");
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
      {26, "device as config",
       [](const auto& f) {
         fs::create_symlink("/dev/zero", f.path() / "config.json");
         open_model({f.path()});
       },
       "config.json: is a character device"},
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

TEST_CASE("a weight that is not all NaN is usable") {
  const TemporaryFolder folder;
  folder.write("model.safetensors", safetensors_file({tensor_entry("a", "F32", "[2]", "[0,8]")},
                                                     std::string("\xFF\xFF\xFF\x7F", 4) + four));
  CHECK(open_safetensors(folder.path())->tensor("a", {2}).extents.size() == 1);
}

}  // namespace chunkstate
