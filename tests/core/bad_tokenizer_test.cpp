// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "core/input_file.hpp"
#include "core/tokenizer/tokenizer.hpp"
#include "tests/core/bad_model_rows.hpp"

namespace chunkstate {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

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

}  // namespace

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

}  // namespace chunkstate
