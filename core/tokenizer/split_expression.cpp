// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer/split_expression.hpp"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "core/errors.hpp"
#include "core/tokenizer/pcre_handle.hpp"
#include "core/tokenizer/split_matcher.hpp"
#include "core/tokenizer/unicode_additions.hpp"
#include "core/utf8.hpp"

namespace chunkstate {
namespace {

constexpr std::size_t max_pattern_bytes = 16384;
// Backtracking steps that one match may take. `\s*[\r\n]` needs one per space of a run; a
// catastrophic expression doubles them with every character.
constexpr std::size_t match_limit = 1'000'000;
constexpr std::size_t match_limit_per_byte = 16;
constexpr std::size_t max_jit_stack = std::size_t{8} << 20;

// PCRE2's own \s adds U+180E, which has not been White_Space since Unicode 6.3.
constexpr std::string_view white_space =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view not_white_space =
    R"(\x{0}-\x{8}\x{E}-\x{1F}\x{21}-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF})"
    R"(\x{200B}-\x{2027}\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& place)
      : pattern_(pattern), place_(place) {}

  std::string run() {
    while (position_ < pattern_.size()) {
      if (pattern_[position_] == '\\') {
        escape();
      } else if (in_class_) {
        class_character();
      } else {
        character();
      }
    }
    return std::move(result_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    throw InputError(place_ + ": byte " + std::to_string(position_) + ": " + std::string(what) +
                     " is not supported in a split expression");
  }

  bool next_is(std::string_view text) const {
    return pattern_.substr(position_, text.size()) == text;
  }

  /// 0, from a search that found nothing, copies the rest.
  void copy(std::size_t count) {
    if (count == 0) count = pattern_.size() - position_;
    result_ += pattern_.substr(position_, count);
    position_ += count;
  }

  const UnicodeAddition* addition_here() const {
    for (const UnicodeAddition& addition : unicode_additions) {
      if (next_is(addition.property)) return &addition;
    }
    return nullptr;
  }

  void put_set(std::string_view property, std::string_view ranges) {
    if (!in_class_) result_ += '[';
    result_.append(property).append(ranges);
    if (!in_class_) result_ += ']';
  }

  void escape() {
    const char letter = position_ + 1 < pattern_.size() ? pattern_[position_ + 1] : '\0';
    if (letter == 's' || letter == 'S') {
      put_set("", letter == 's' ? white_space : not_white_space);
      position_ += 2;
    } else if (const UnicodeAddition* addition = addition_here()) {
      put_set(addition->property, addition->ranges);
      position_ += addition->property.size();
    } else if (letter != '\0' &&
               std::string_view("wWbBhHGKRXQECgk").find(letter) != std::string_view::npos) {
      refuse(std::string("\\") + letter);
    } else {
      copy(letter == '\0' ? 1 : 2);
      if (next_is("{")) copy(pattern_.substr(position_).find('}') + 1);  // \p{L}, \x{A0}
    }
  }

  void class_character() {
    if (next_is("&&")) refuse("a class intersection");
    if (next_is("[")) refuse("a class within a class");
    if (next_is("]")) in_class_ = false;
    copy(1);
  }

  void character() {
    if (next_is("[")) {
      in_class_ = true;
      copy(1);
      if (next_is("^")) copy(1);
      if (next_is("]")) refuse("an empty class");
    } else if (next_is("}+")) {
      refuse("a repeated repetition");
    } else if (next_is("(?")) {
      copy(2);
      group();
    } else {
      copy(1);
    }
  }

  /// Behind "(?": (?: (?= (?! (?<= (?<! (?> and the flag i mean the same to both, m and s do not.
  void group() {
    for (const std::string_view same : {":", "=", "!", "<=", "<!", ">"}) {
      if (next_is(same)) return copy(same.size());
    }
    while (next_is("i") || next_is("-")) copy(1);
    if (!next_is(":") && !next_is(")")) refuse("this kind of group");
  }

  std::string_view pattern_;
  const std::string& place_;
  std::size_t position_ = 0;
  bool in_class_ = false;
  std::string result_;
};

std::string error_text(int code) {
  PCRE2_UCHAR text[256] = {};
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

}  // namespace

std::string translate_expression(std::string_view pattern, const std::string& place) {
  return Translator(pattern, place).run();
}

struct SplitScratch::Impl {
  PcreHandle<pcre2_match_data> data = pcre_handle(pcre2_match_data_create(1, nullptr));
  PcreHandle<pcre2_jit_stack> stack =
      pcre_handle(pcre2_jit_stack_create(32768, max_jit_stack, nullptr));
  PcreHandle<pcre2_match_context> context = pcre_handle(pcre2_match_context_create(nullptr));
  CharacterKinds kinds;

  Impl() { pcre2_jit_stack_assign(context.get(), nullptr, stack.get()); }
};

SplitScratch::SplitScratch() : impl_(std::make_unique<Impl>()) {}
SplitScratch::~SplitScratch() = default;

struct SplitExpression::Impl {
  std::string place;
  PcreHandle<pcre2_code> code;
  SplitMatcher matcher = nullptr;  // where there is one for this expression
};

SplitExpression::SplitExpression(std::string_view pattern, const std::string& place)
    : impl_(std::make_unique<Impl>()) {
  if (pattern.size() > max_pattern_bytes) {
    throw InputError(place + ": has " + std::to_string(pattern.size()) +
                     " bytes, expected at most " + std::to_string(max_pattern_bytes));
  }
  const std::string translated = translate_expression(pattern, place);
  const auto context = pcre_handle(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  std::size_t offset = 0;
  // Ruby's ^ and $ match at every line.
  impl_->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()),
                                  translated.size(), PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE,
                                  &error, &offset, context.get()));
  if (!impl_->code) {
    throw InputError(place + ": '" + printable(pattern) +
                     "' is not a regular expression: " + error_text(error));
  }
  impl_->place = place;
  impl_->matcher = find_split_matcher(pattern);
  // Without JIT support on this machine the interpreter gives the same matches.
  pcre2_jit_compile(impl_->code.get(), PCRE2_JIT_COMPLETE);
}

SplitExpression::~SplitExpression() = default;
SplitExpression::SplitExpression(SplitExpression&&) noexcept = default;
SplitExpression& SplitExpression::operator=(SplitExpression&&) noexcept = default;

void SplitExpression::split(std::string_view text, SplitScratch& scratch,
                            std::vector<std::size_t>& ends) const {
  if (impl_->matcher != nullptr) return impl_->matcher(text, scratch.impl_->kinds, ends);
  const std::size_t limit = match_limit + match_limit_per_byte * text.size();
  pcre2_set_match_limit(scratch.impl_->context.get(),
                        static_cast<std::uint32_t>(std::min<std::size_t>(limit, UINT32_MAX)));
  std::size_t position = 0;  // of the next search
  std::size_t done = 0;      // end of the last piece
  const auto end_piece = [&](std::size_t end) {
    if (end > done) ends.push_back(done = end);
  };
  while (position <= text.size()) {
    const int count = pcre2_match(impl_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                                  text.size(), position, PCRE2_NO_UTF_CHECK,
                                  scratch.impl_->data.get(), scratch.impl_->context.get());
    if (count == PCRE2_ERROR_NOMATCH) break;
    if (count < 0) {
      throw InputError(impl_->place + ": the split expression fails at byte " +
                       std::to_string(position) + " of a text: " + error_text(count));
    }
    const std::size_t* match = pcre2_get_ovector_pointer(scratch.impl_->data.get());
    end_piece(match[0]);
    end_piece(match[1]);
    position = match[1];
    if (match[1] <=
        match[0]) {  // an empty match cuts; the search goes on behind the next character
      if (position >= text.size()) break;
      next_code_point(text, position);
    }
  }
  end_piece(text.size());
}

}  // namespace chunkstate
