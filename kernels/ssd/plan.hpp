// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ssd/ssd.hpp"

namespace chunkstate {

/// Tokens [begin, begin + length) of a call whose interactions are computed pairwise, and which
/// meet all earlier tokens through the state. A block never crosses a chunk border that matters.
struct SsdBlock {
  std::int64_t begin;
  std::int64_t length;
  std::int64_t chunk;  // number of the chunk on the sequence's own grid
  bool opens_chunk;    // the semantics forgets something right before this block
  bool closes_chunk;   // the last block of its chunk in this call
};

/// Length of a block that meets a state: longer ones cost more pairs (length * head_dim per token),
/// shorter ones more passes over the state.
inline constexpr std::int64_t ssd_block_tokens = 64;

/// Longest block; bounds the scores, length^2 per block and group.
inline constexpr std::int64_t ssd_longest_block = 512;

/// The blocks of a call in order.
std::vector<SsdBlock> plan_blocks(SsdSemantics semantics, const SsdArgs& args);

/// The length of the blocks of a chunk's part of `tokens` tokens which starts from a zero state and
/// leaves no state behind: as one block it needs no state at all.
std::int64_t isolated_block_tokens(std::int64_t tokens, std::int64_t state_dim);

}  // namespace chunkstate
