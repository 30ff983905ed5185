// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer/split_matcher.hpp"

#include <algorithm>

#include "core/utf8.hpp"

namespace chunkstate {
namespace {

constexpr std::string_view gpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view llama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

using Kind = CharacterKind;

bool is_white(Kind kind) { return kind == Kind::space || kind == Kind::newline; }

/// Both expressions match at every position: each function says where the match at `begin` ends.
class Matcher {
 public:
  Matcher(std::string_view text, CharacterKinds& kinds) : text_(text), kinds_(kinds) {}

  std::size_t gpt2_end(std::size_t begin) {
    if (const std::size_t end = contraction_end(begin, false)) return end;
    std::size_t end = begin;
    Kind kind = next(end);
    if (text_[begin] == ' ' && end < text_.size()) {  // the one space in front of a run
      std::size_t behind = end;
      const Kind after = next(behind);
      if (!is_white(after)) {
        kind = after;
        end = behind;
      }
    }
    return is_white(kind) ? white_end(begin, false) : run_end(kind, end);
  }

  std::size_t llama3_end(std::size_t begin) {
    if (const std::size_t end = contraction_end(begin, true)) return end;
    std::size_t end = begin;
    const Kind kind = next(end);
    if (kind == Kind::letter) return run_end(kind, end);
    if (kind == Kind::number) return run_end(kind, end, 2);
    if (kind != Kind::newline && end < text_.size()) {
      std::size_t behind = end;
      const Kind after = next(behind);
      if (after == Kind::letter) return run_end(after, behind);
      if (text_[begin] == ' ' && after == Kind::other) {
        return run_end(Kind::newline, run_end(after, behind));
      }
    }
    if (kind == Kind::other) return run_end(Kind::newline, run_end(kind, end));
    return white_end(begin, true);
  }

 private:
  /// Of the character at `position`; moves `position` behind it.
  Kind next(std::size_t& position) {
    const auto first = static_cast<unsigned char>(text_[position]);
    if (first >= 0x80) return kinds_.of(next_code_point(text_, position));
    ++position;
    return kinds_.of_ascii(first);
  }

  /// Behind the characters of this kind from `position` on, or the first `most` of them.
  std::size_t run_end(Kind kind, std::size_t position, std::size_t most = std::string_view::npos) {
    while (position < text_.size() && most > 0) {
      std::size_t behind = position;
      if (next(behind) != kind) break;
      position = behind;
      --most;
    }
    return position;
  }

  /// \s*[\r\n]+ if `newlines`, else \s+(?!\S), else \s+.
  std::size_t white_end(std::size_t begin, bool newlines) {
    std::size_t last = begin, behind_newline = begin, end = begin;
    while (end < text_.size()) {
      std::size_t behind = end;
      const Kind kind = next(behind);
      if (!is_white(kind)) break;
      last = end;
      end = behind;
      if (kind == Kind::newline) behind_newline = end;
    }
    if (newlines && behind_newline > begin) return behind_newline;
    return end == text_.size() || last == begin ? end : last;
  }

  /// 0: there is none.
  std::size_t contraction_end(std::size_t begin, bool any_case) const {
    if (text_[begin] != '\'') return 0;
    std::array<char, 2> behind{};
    for (std::size_t i = 0; i < 2 && begin + 1 + i < text_.size(); ++i) {
      const char c = text_[begin + 1 + i];
      behind[i] = any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
    if (std::string_view("stmd").find(behind[0]) != std::string_view::npos) return begin + 2;
    const std::string_view two(behind.data(), 2);
    if (two == "re" || two == "ve" || two == "ll") return begin + 3;
    if (any_case && two == "\u017F") return begin + 3;  // the long s, whose capital is S too
    return 0;
  }

  std::string_view text_;
  CharacterKinds& kinds_;
};

template <std::size_t (Matcher::*match_end)(std::size_t)>
void split_by(std::string_view text, CharacterKinds& kinds, std::vector<std::size_t>& ends) {
  Matcher matcher(text, kinds);
  for (std::size_t end = 0; end < text.size();) {
    end = (matcher.*match_end)(end);
    ends.push_back(end);
  }
}

}  // namespace

SplitMatcher find_split_matcher(std::string_view pattern) {
  if (pattern == gpt2) return split_by<&Matcher::gpt2_end>;
  if (pattern == llama3) return split_by<&Matcher::llama3_end>;
  return nullptr;
}

}  // namespace chunkstate
