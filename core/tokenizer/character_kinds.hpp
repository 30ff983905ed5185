// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace chunkstate {

/// What the well-known split expressions tell apart. White space is `space` or `newline`.
enum class CharacterKind : std::uint8_t { other, letter, number, space, newline };

/// The kind of every code point: \p{L}, \p{N}, \s, [\r\n] as PCRE2 sees them in a SplitExpression,
/// whose version and additions decide. Other pages of 256 than the first are asked for when met.
class CharacterKinds {
 public:
  CharacterKinds();

  CharacterKind of(char32_t code_point) {
    const std::unique_ptr<Page>& page = pages_[code_point >> 8];
    if (!page) add_page(code_point >> 8);
    return (*page)[code_point & 0xFF];
  }
  CharacterKind of_ascii(unsigned char character) const { return (*pages_[0])[character]; }

 private:
  using Page = std::array<CharacterKind, 256>;
  void add_page(std::size_t number);

  std::vector<std::unique_ptr<Page>> pages_;
};

}  // namespace chunkstate
