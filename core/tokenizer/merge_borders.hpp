// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>

namespace chunkstate {

/// Where a text may be cut so that the tokens of the pieces, one after another, are those of the
/// whole: between two characters that no merge joins, such as a letter and the space behind it. BPE
/// with byte fallback has no split expression and would otherwise merge a whole text at once.
///
/// Of other characters than ASCII and U+2581, which stands for a space, all count as one.
class MergeBorders {
 public:
  /// A merge of these two texts, neither of them empty, is known.
  void join(std::string_view left, std::string_view right);

  /// No text may be cut anywhere.
  void join_all();

  /// Says which characters are tokens. What is none becomes bytes or the unknown token; in which
  /// order, neighbours of that kind decide together.
  void set_tokens(const std::unordered_map<char32_t, std::int32_t>& character_tokens);

  /// End of the piece that begins at `begin` of `text`, which is valid UTF-8 and longer.
  std::size_t piece_end(std::string_view text, std::size_t begin) const;

 private:
  static constexpr std::size_t ascii = 128;
  static constexpr std::size_t space = ascii;      // U+2581
  static constexpr std::size_t other = ascii + 1;  // every other character
  static constexpr std::size_t kinds = ascii + 2;

  /// Of the character at `position`; moves `position` behind it.
  static std::size_t kind_at(std::string_view text, std::size_t& position);

  std::array<std::bitset<kinds>, kinds> joined_;  // [kind of the left one][kind of the right one]
};

}  // namespace chunkstate
