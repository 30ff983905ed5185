// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer/character_kinds.hpp"

#include <stdexcept>
#include <string>

#include "core/tokenizer/pcre_handle.hpp"
#include "core/tokenizer/split_expression.hpp"
#include "core/utf8.hpp"

namespace chunkstate {
namespace {

constexpr std::size_t pages = 0x110000 / 256;

/// Groups in the order of CharacterKind.
const pcre2_code* kind_expression() {
  static const PcreHandle<pcre2_code> code = [] {
    const std::string pattern =
        translate_expression(R"((\p{L})|(\p{N})|([^\S\r\n])|([\r\n]))", "character kinds");
    int error = 0;
    std::size_t offset = 0;
    auto compiled =
        pcre_handle(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                  PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr));
    pcre2_jit_compile(compiled.get(), PCRE2_JIT_COMPLETE);
    return compiled;
  }();
  return code.get();
}

}  // namespace

CharacterKinds::CharacterKinds() : pages_(pages) { add_page(0); }

void CharacterKinds::add_page(std::size_t number) {
  constexpr int groups = 4;
  const auto data = pcre_handle(pcre2_match_data_create(groups + 1, nullptr));
  auto page = std::make_unique<Page>();
  for (std::size_t i = 0; i < page->size(); ++i) {
    const auto code_point = static_cast<char32_t>(number * 256 + i);
    (*page)[i] = CharacterKind::other;
    if (code_point >= 0xD800 && code_point < 0xE000) continue;  // surrogates: in no text
    std::string text;
    append_utf8(text, code_point);
    const int count = pcre2_match(kind_expression(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                                  text.size(), 0, PCRE2_NO_UTF_CHECK, data.get(), nullptr);
    if (count == PCRE2_ERROR_NOMATCH) continue;
    if (count < 0) throw std::runtime_error("PCRE2 fails at a character's kind");
    (*page)[i] = static_cast<CharacterKind>(count - 1);  // the last group that took part
  }
  pages_[number] = std::move(page);
}

}  // namespace chunkstate
