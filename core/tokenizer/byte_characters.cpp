// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer/byte_characters.hpp"

#include <array>
#include <charconv>
#include <cstdint>

#include "core/utf8.hpp"

namespace chunkstate {
namespace {

/// Bytes 33-126, 161-172 and 174-255 are written as the character of that number, the other 68 in
/// order from U+0100.
std::array<std::int16_t, 0x144> make_byte_of_character() {
  std::array<std::int16_t, 0x144> byte_of_character;
  byte_of_character.fill(-1);
  std::size_t next = 0x100;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const bool printable_byte =
        (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    byte_of_character[printable_byte ? byte : next++] = static_cast<std::int16_t>(byte);
  }
  return byte_of_character;
}

}  // namespace

std::string bytes_of_token_text(std::string_view text, bool& in_table) {
  static const auto table = make_byte_of_character();
  std::string bytes;
  in_table = true;
  for (std::size_t position = 0; position < text.size();) {
    const char32_t character = next_code_point(text, position);
    if (character >= table.size() || table[character] < 0) {
      in_table = false;
      return std::string(text);
    }
    bytes += static_cast<char>(table[character]);
  }
  return bytes;
}

int fallback_byte(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  int byte = 0;
  const auto read = std::from_chars(text.data() + 3, text.data() + 5, byte, 16);
  return read.ptr == text.data() + 5 && byte >= 0 ? byte : -1;
}

}  // namespace chunkstate
