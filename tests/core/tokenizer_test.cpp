// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer.hpp"

#include <ctime>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "core/byte_pair_merges.hpp"
#include "core/errors.hpp"
#include "core/input_file.hpp"
#include "core/split_expression.hpp"
#include "core/split_matcher.hpp"
#include "core/text_normalizer.hpp"
#include "core/tokenizer_file.hpp"
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

/// Of parts that split expressions treat each in another way.
std::string awkward_text(std::mt19937& random) {
  constexpr const char* parts[] = {
      " ",      "  ",     "\t",     "\n",     "\r\n",       "\u00A0", "\u2003",  "\u3000", "\u0085",
      "\u180E", "a",      "The",    "\u00E9", "\u4E2D",     "\u01C5", "\u017F",  "1",      "42",
      "12345",  "\u0660", "\u2167", "\u00B2", "\U0001D7D9", ".",      "==",      "\"",     "'",
      "'s",     "'LL",    "'Re",    "'vE",    "'D",         "'tis",   "'\u017F", "\u2019", "\u0301",
      "\u200D", "\u20AC", "\uFEFF", "\u0378", "\U0001F600", "\u1C89"};
  std::string text;
  for (unsigned i = 0, count = 1 + random() % 24; i < count; ++i) {
    if (random() % 8 != 0) {
      text += parts[random() % std::size(parts)];
      continue;
    }
    const char32_t point = random() % 0x110000;
    append_utf8(text, point >= 0xD800 && point < 0xE000 ? U'\'' : point);
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

TEST_CASE("the two merge loops join the same pairs as the definition") {
  for (unsigned seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    std::vector<BytePairMerges::Merge> merges;
    for (int i = 0; i < 60; ++i) {
      const auto below = 4 + i;
      merges.push_back({static_cast<std::int32_t>(random() % below),
                        static_cast<std::int32_t>(random() % below), 4 + i});
    }
    Ids tokens(1 + random() % 200);
    for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(random() % 4);
    INFO("seed " << seed << ", " << tokens.size() << " tokens");

    Ids expected = tokens;
    for (;;) {
      std::size_t best_rank = merges.size();
      std::size_t best = 0;
      for (std::size_t i = 0; i + 1 < expected.size(); ++i) {
        for (std::size_t rank = merges.size(); rank-- > 0;) {
          if (merges[rank].left != expected[i] || merges[rank].right != expected[i + 1]) continue;
          if (rank < best_rank) best_rank = rank, best = i;
          break;  // the last of equal pairs counts
        }
      }
      if (best_rank == merges.size()) break;
      expected[best] = merges[best_rank].joined;
      expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    BytePairMerges(merges).apply(tokens);
    CHECK(tokens == expected);
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

TEST_CASE("the matchers of well-known expressions cut where PCRE2 does") {
  const std::string patterns[] = {
      R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
      R"(\s*[\r\n]+|\s+(?!\S)|\s+)"};
  for (const std::string& pattern : patterns) {
    REQUIRE(find_split_matcher(pattern) != nullptr);
    REQUIRE(find_split_matcher("(?:" + pattern + ")") == nullptr);
    const SplitExpression by_hand(pattern, "test");
    const SplitExpression by_pcre("(?:" + pattern + ")", "test");
    SplitScratch scratch;
    std::vector<std::size_t> found, expected;
    const auto same = [&](const std::string& text) {
      found.clear();
      expected.clear();
      by_hand.split(text, scratch, found);
      by_pcre.split(text, scratch, expected);
      return found == expected;
    };
    int unequal = 0;
    for (char32_t point = 0; point < 0x110000; ++point) {  // beside a letter, number, space, sign
      if (point >= 0xD800 && point < 0xE000) continue;
      std::string text = "a";
      for (const char* behind : {"1", "  ", "'", "!\n"}) {
        append_utf8(text, point);
        text += behind;
      }
      unequal += same(text) ? 0 : 1;
    }
    CHECK(unequal == 0);
    for (unsigned seed = 0; seed < 20'000; ++seed) {
      std::mt19937 random(seed);
      const std::string text = awkward_text(random);
      INFO("seed " << seed << ", pattern " << pattern << ", text " << text);
      if (!same(text)) FAIL("the pieces differ");
    }
  }
}

TEST_CASE("an expression is translated from Ruby's syntax to PCRE2's") {
  const auto pieces = [](const std::string& pattern, const std::string& text) {
    SplitScratch scratch;
    std::vector<std::size_t> ends;
    SplitExpression(pattern, "test").split(text, scratch, ends);
    std::string marked;
    std::size_t begin = 0;
    for (const std::size_t end : ends) {
      marked += text.substr(begin, end - begin) + "|";
      begin = end;
    }
    return marked;
  };
  CHECK(pieces("b+", "abbc") == "a|bb|c|");
  CHECK(pieces("x*", "abxc") == "a|b|x|c|");
  CHECK(pieces(R"([^\S\n]|\s)", "a\u180e\u3000b\n") == "a\u180e|\u3000|b|\n|");
  CHECK(pieces("^a", "aa\na") == "a|a\n|a|");
  CHECK(pieces("a", "") == "");
}

}  // namespace chunkstate
