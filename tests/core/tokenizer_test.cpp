// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer/tokenizer.hpp"

#include <ctime>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "core/errors.hpp"
#include "core/input_file.hpp"
#include "core/tokenizer/text_normalizer.hpp"
#include "core/tokenizer/tokenizer_file.hpp"
#include "core/utf8.hpp"
#include "tests/catch.hpp"
#include "tests/core/input_builders.hpp"

namespace chunkstate {
namespace {

using Ids = std::vector<std::int32_t>;
using nlohmann::json;

std::string source_file(const std::string& name) {
  return read_input_file(std::string(CHUNKSTATE_SOURCE_DIR) + "/" + name, 64 << 20);
}

json golden(const std::string& name) { return json::parse(source_file("tests/golden/" + name)); }

const Tokenizer& tiny() {
  static const Tokenizer tokenizer(source_file("experiments/models/bamba-tiny/tokenizer.json"),
                                   "tokenizer.json", 8192);
  return tokenizer;
}

std::string random_text(std::mt19937& random) {
  std::string text;
  for (unsigned i = 0, count = 1 + random() % 40; i < count; ++i) {
    char32_t point = random() % 4 == 0 ? 0x20 + random() % 0x5F : random() % 0x110000;
    if (point >= 0xD800 && point < 0xE000) point = U'\n';
    append_utf8(text, point);
  }
  return text;
}

}  // namespace

TEST_CASE("ids and texts equal those of the tokenizers package") {
  for (const json& c : golden("tokenizer.json")) {
    INFO(c["text"]);
    const auto text = c["text"].get<std::string>();
    CHECK(tiny().encode(text, false) == c["ids"].get<Ids>());
    CHECK(tiny().encode(text, true) == c["ids_with_bos"].get<Ids>());
    CHECK(tiny().decode(c["ids"].get<Ids>()) == c["decoded"].get<std::string>());
  }
}

TEST_CASE("awkward Unicode gives the ids of the tokenizers package") {
  const json cases = golden("tokenizer_unicode.json");
  CHECK(cases.size() > 200);
  for (const json& c : cases) {
    const auto text = c["text"].get<std::string>();
    INFO(c["text"]);
    CHECK(tiny().encode(text, false) == c["ids"].get<Ids>());
    CHECK(tiny().decode(c["ids"].get<Ids>()) == text);
  }
}

TEST_CASE("ignore_merges decides where a piece is a vocabulary entry") {
  for (const std::string flag : {"true", "false"}) {
    const std::string folder = "tokenizer-ignore-merges-" + flag;
    const Tokenizer tokenizer(source_file("tests/golden/" + folder + "/tokenizer.json"), folder);
    for (const json& c : golden(folder + "/cases.json")) {
      INFO(flag << ": " << c["text"]);
      CHECK(tokenizer.encode(c["text"].get<std::string>(), false) == c["ids"].get<Ids>());
    }
  }
}

TEST_CASE("Granite 3's pre-tokenizers cut digits as the tokenizers package does") {
  for (const bool individual : {true, false}) {
    json file = json::parse(source_file("experiments/models/bamba-tiny/tokenizer.json"));
    file["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Digits"}, {"individual_digits", individual}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}}}};
    const Tokenizer tokenizer(file.dump(), "tokenizer.json");
    for (const json& c : golden("tokenizer_digits.json")) {
      if (c["individual"].get<bool>() != individual) continue;
      INFO(c);
      CHECK(tokenizer.encode(c["text"].get<std::string>(), false) == c["ids"].get<Ids>());
    }
  }
}

TEST_CASE("a tokenizer with byte fallback gives the ids and texts of the tokenizers package") {
  const std::string folder = "tokenizer-sentencepiece";
  std::map<std::string, Tokenizer> variants;
  const auto add = [&](const std::string& name, const json& file) {
    variants.emplace(name, Tokenizer(file.dump(), folder));
  };
  json file = golden(folder + "/tokenizer.json");
  add("", file);
  json normalized = file;
  for (json& token : normalized["added_tokens"]) token["normalized"] = true;
  add("normalized", normalized);
  for (const char* byte : {"<0xE2>", "<0xF0>", "<0x0A>"}) file["model"]["vocab"].erase(byte);
  add("missing bytes", file);
  file["model"]["fuse_unk"] = false;
  add("missing bytes, not fused", file);

  const json cases = golden(folder + "/cases.json");
  CHECK(cases.size() > 500);
  for (const json& c : cases) {
    const Tokenizer& tokenizer = variants.at(c["variant"].get<std::string>());
    INFO(c);
    const Ids ids = c["ids"].get<Ids>();
    CHECK(tokenizer.decode(ids) == c["decoded"].get<std::string>());
    if (!c.contains("text")) continue;
    const auto text = c["text"].get<std::string>();
    CHECK(tokenizer.encode(text, false) == ids);
    CHECK(tokenizer.encode(text, true) == c["ids_with_bos"].get<Ids>());
  }
}

TEST_CASE("with byte fallback any text comes back byte for byte") {
  const Tokenizer tokenizer(source_file("tests/golden/tokenizer-sentencepiece/tokenizer.json"), "");
  CHECK(tokenizer.end_of_text() == Ids{2});
  for (unsigned seed = 0; seed < 1000; ++seed) {
    std::mt19937 random(seed);
    std::string text = random_text(random);
    text = replace_all(text, "\u2581", "_");  // the one character that stands for another
    INFO("seed " << seed);
    CHECK(tokenizer.decode(tokenizer.encode(text, false)) == text);
  }
}

TEST_CASE("invalid UTF-8 decodes to U+FFFD by maximal subparts") {
  for (const json& c : golden("decode.json")) {
    CHECK(tiny().decode(c["ids"].get<Ids>()) == c["decoded"].get<std::string>());
  }
  CHECK(replace_invalid_utf8("a\xF0\x9F\x98"
                             "b\xC0\x80\xED\xA0\x80\xE2\x82") ==
        "a\uFFFD"
        "b\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
}

TEST_CASE("any text comes back byte for byte") {
  for (unsigned seed = 0; seed < 3000; ++seed) {
    std::mt19937 random(seed);
    const std::string text = random_text(random);
    INFO("seed " << seed);
    const Ids ids = tiny().encode(text, false);
    CHECK(tiny().decode(ids) == text);
    std::string joined;
    for (const std::int32_t id : ids) joined += tiny().token_bytes(id);
    CHECK(joined == text);
  }
}

TEST_CASE("end_of_text is found by content") {
  CHECK(tiny().end_of_text() == Ids{8185});
  CHECK(tiny().size() == 8187);
}

TEST_CASE("ids without a token are no text below vocab_size and an error beyond it") {
  CHECK(tiny().decode(Ids{8191}).empty());
  CHECK(message_of<InputError>([] { (void)tiny().decode(Ids{8192}); }) ==
        "token id 8192 is not in the vocabulary, expected 0 to 8191");
  CHECK(contains(message_of<InputError>([] { (void)tiny().token_bytes(-1); }), "token id -1"));
}

TEST_CASE("text that is not UTF-8 is an error that names the byte") {
  CHECK(message_of<InputError>([] { (void)tiny().encode("good \xC3", false); }) ==
        "text is not valid UTF-8 at byte 5");
}

TEST_CASE("long pieces take time in proportion to their length") {
  const std::clock_t begin = std::clock();
  for (const char c : {'a', ' ', '\n', '=', '7'}) {
    const std::string text(1 << 20, c);
    CHECK(tiny().decode(tiny().encode(text, false)) == text);
  }
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  CHECK(seconds < 20.0);  // a quadratic loop takes hours
}

}  // namespace chunkstate
