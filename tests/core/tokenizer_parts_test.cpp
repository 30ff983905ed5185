// SPDX-License-Identifier: Apache-2.0
// How a text is cut into pieces, and a piece merged.
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "core/tokenizer/byte_pair_merges.hpp"
#include "core/tokenizer/merge_borders.hpp"
#include "core/tokenizer/split_expression.hpp"
#include "core/tokenizer/split_matcher.hpp"
#include "core/tokenizer/tokenizer.hpp"
#include "core/utf8.hpp"
#include "tests/catch.hpp"

namespace chunkstate {
namespace {

using Ids = std::vector<std::int32_t>;
using nlohmann::json;

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

/// A tokenizer.json with byte fallback: random merges of few characters, some of which are no
/// tokens; `cut` false: with a merge, of a byte that no text here has, that forbids to cut.
json random_fallback_tokenizer(std::mt19937& random, bool cut) {
  std::map<std::string, int> vocabulary;
  std::vector<std::string> texts = {"a", "b", "c", "\u2581", "\u00E9", "."};
  const auto add = [&](const std::string& text) {
    return vocabulary.emplace(text, static_cast<int>(vocabulary.size())).second;
  };
  for (const char* text : {"<unk>", "<0x0A>", "<0xE2>", "<0x82>", "<0xAC>"}) add(text);
  for (const std::string& text : texts) add(text);
  json merges = json::array();
  for (unsigned i = 0, count = random() % 30; i < count; ++i) {
    const std::string left = texts[random() % texts.size()];
    const std::string right = texts[random() % texts.size()];
    if (!add(left + right)) continue;
    texts.push_back(left + right);
    merges.push_back({left, right});
  }
  const bool fuse = random() % 2 == 0;
  for (const char* text : {"<0x41>", "<0x41>a"}) add(text);
  if (!cut) merges.push_back({"<0x41>", "a"});
  return {{"model",
           {{"type", "BPE"},
            {"byte_fallback", true},
            {"unk_token", "<unk>"},
            {"fuse_unk", fuse},
            {"vocab", vocabulary},
            {"merges", merges}}},
          {"decoder",
           {{"type", "Sequence"},
            {"decoders",
             {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
              {{"type", "ByteFallback"}},
              {{"type", "Fuse"}}}}}}};
}

}  // namespace

TEST_CASE("a text is cut only where no merge joins") {
  MergeBorders borders;
  borders.join("\u2581", "t");
  borders.join("\u2581t", "he");
  borders.join("\u00E9", "t");
  borders.set_tokens({{U'\u2581', 0}, {U't', 1}, {U'h', 2}, {U'e', 3}, {U'.', 4}});
  const auto pieces = [&](const std::string& text) {
    std::string marked;
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = borders.piece_end(text, begin);
      marked += text.substr(begin, end - begin) + "|";
      begin = end;
    }
    return marked;
  };
  CHECK(pieces("\u2581the.\u2581\u2581t") == "\u2581th|e|.|\u2581|\u2581t|");
  CHECK(pieces("\u00E8te\u00E8") == "\u00E8t|e|\u00E8|");  // other characters count as one
  CHECK(pieces("xy\u4E2Dt.x") == "xy\u4E2Dt|.|x|");        // those that are no tokens stay together
  borders.join_all();
  CHECK(pieces("e.\u2581") == "e.\u2581|");
}

TEST_CASE("with byte fallback a text that is cut has the tokens of the whole") {
  constexpr const char* parts[] = {"a", "b",  "c",      "ab",     "\u2581", "\u2581a", "\u00E9",
                                   ".", "\n", "\u20AC", "\u4E2D", "d",      "\u0301"};
  for (unsigned seed = 0; seed < 400; ++seed) {
    std::mt19937 random(seed), again(seed);
    const Tokenizer cut(random_fallback_tokenizer(random, true).dump(), "cut");
    const Tokenizer whole(random_fallback_tokenizer(again, false).dump(), "whole");
    for (int i = 0; i < 20; ++i) {
      std::string text;
      for (unsigned n = random() % 100; n > 0; --n) text += parts[random() % std::size(parts)];
      INFO("seed " << seed << ", text " << text);
      if (cut.encode(text, false) != whole.encode(text, false)) FAIL("the ids differ");
    }
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
