// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer/merge_borders.hpp"

#include "core/utf8.hpp"

namespace chunkstate {
namespace {

constexpr char32_t space_character = 0x2581;

}  // namespace

std::size_t MergeBorders::kind_at(std::string_view text, std::size_t& position) {
  const char32_t character = next_code_point(text, position);
  return character < ascii ? character : character == space_character ? space : other;
}

void MergeBorders::join(std::string_view left, std::string_view right) {
  std::size_t last = left.size() - 1;
  while ((static_cast<unsigned char>(left[last]) & 0xC0U) == 0x80U) --last;
  std::size_t first = 0;
  const std::size_t kind = kind_at(left, last);
  joined_[kind].set(kind_at(right, first));
}

void MergeBorders::join_all() {
  for (auto& row : joined_) row.set();
}

void MergeBorders::set_tokens(const std::unordered_map<char32_t, std::int32_t>& character_tokens) {
  std::bitset<kinds> not_tokens;
  for (char32_t character = 0; character < ascii; ++character) {
    not_tokens[character] = character_tokens.count(character) == 0;
  }
  not_tokens[space] = character_tokens.count(space_character) == 0;
  not_tokens.set(other);
  for (std::size_t kind = 0; kind < kinds; ++kind) {
    if (not_tokens[kind]) joined_[kind] |= not_tokens;
  }
}

std::size_t MergeBorders::piece_end(std::string_view text, std::size_t begin) const {
  std::size_t end = begin;
  std::size_t before = kind_at(text, end);
  while (end < text.size()) {
    std::size_t next = end;
    const std::size_t after = kind_at(text, next);
    if (!joined_[before][after]) break;
    before = after;
    end = next;
  }
  return end;
}

}  // namespace chunkstate
