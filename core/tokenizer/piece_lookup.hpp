// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/tokenizer/tokenizer_file.hpp"

namespace chunkstate {

std::uint64_t hash_of_piece(std::string_view piece);

/// Finds the id of a piece that is a vocabulary entry. Open addressing over the tokens' own bytes.
class PieceTable {
 public:
  explicit PieceTable(const std::vector<TokenizerFile::Token>& tokens);

  /// -1: not found. `hash` is the piece's.
  std::int32_t find(std::string_view piece, std::uint64_t hash) const;

 private:
  const std::vector<TokenizerFile::Token>& tokens_;
  std::vector<std::int32_t> ids_;
};

/// Remembers the tokens of pieces seen before, one per slot: a short piece with few tokens, which
/// nearly all words are, takes the place of the one before. A hit reads one cache line.
class PieceCache {
 public:
  PieceCache() : slots_(slots) {}

  /// Empty: unknown.
  std::span<const std::int32_t> find(std::string_view piece, std::uint64_t hash) const;
  void put(std::string_view piece, std::uint64_t hash, std::span<const std::int32_t> tokens);

 private:
  static constexpr std::size_t slots = std::size_t{1} << 14;
  struct alignas(64) Slot {
    std::uint8_t bytes = 0;  // 0: free
    std::uint8_t tokens = 0;
    std::array<char, 38> piece;
    std::array<std::int32_t, 6> ids;
  };
  static_assert(sizeof(Slot) == 64);

  std::vector<Slot> slots_;
};

}  // namespace chunkstate
