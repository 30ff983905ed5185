// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer/piece_lookup.hpp"

#include <xxhash.h>

#include <algorithm>

namespace chunkstate {

std::uint64_t hash_of_piece(std::string_view piece) {
  return XXH3_64bits(piece.data(), piece.size());
}

PieceTable::PieceTable(const std::vector<TokenizerFile::Token>& tokens) : tokens_(tokens) {
  std::size_t slots = 16;
  while (slots < 2 * tokens.size()) slots *= 2;
  ids_.assign(slots, -1);
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (!tokens[id].in_vocabulary) continue;
    std::size_t i = hash_of_piece(tokens[id].bytes) & (slots - 1);
    while (ids_[i] >= 0) i = (i + 1) & (slots - 1);
    ids_[i] = static_cast<std::int32_t>(id);
  }
}

std::int32_t PieceTable::find(std::string_view piece, std::uint64_t hash) const {
  std::size_t i = hash & (ids_.size() - 1);
  while (ids_[i] >= 0 && tokens_[static_cast<std::size_t>(ids_[i])].bytes != piece) {
    i = (i + 1) & (ids_.size() - 1);
  }
  return ids_[i];
}

std::span<const std::int32_t> PieceCache::find(std::string_view piece, std::uint64_t hash) const {
  const Slot& slot = slots_[hash & (slots - 1)];
  if (slot.bytes != piece.size() || std::string_view(slot.piece.data(), slot.bytes) != piece) {
    return {};
  }
  return {slot.ids.data(), slot.tokens};
}

void PieceCache::put(std::string_view piece, std::uint64_t hash,
                     std::span<const std::int32_t> tokens) {
  Slot& slot = slots_[hash & (slots - 1)];
  if (piece.size() > slot.piece.size() || tokens.size() > slot.ids.size()) return;
  slot.bytes = static_cast<std::uint8_t>(piece.size());
  slot.tokens = static_cast<std::uint8_t>(tokens.size());
  std::copy(piece.begin(), piece.end(), slot.piece.begin());
  std::copy(tokens.begin(), tokens.end(), slot.ids.begin());
}

}  // namespace chunkstate
