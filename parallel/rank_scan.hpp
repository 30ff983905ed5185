// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "parallel/rank_group.hpp"

namespace chunkstate {

/// The ranks before and after this one that take part; -1: none.
struct RankNeighbours {
  int left = -1;
  int right = -1;
};

/// Prefix over ranks as a chain: `value` arrives as what the ranks to the left made of it,
/// `advance` turns it into what it is after this rank, and it goes on to the right. The first rank
/// starts from what `value` holds. `value` must not change before group.flush().
template <class Advance>
void rank_scan(RankGroup& group, const RankNeighbours& neighbours, std::span<std::byte> value,
               Advance&& advance) {
  if (neighbours.left >= 0) group.receive(value, neighbours.left);
  advance();
  if (neighbours.right >= 0) group.post(value, neighbours.right);
}

}  // namespace chunkstate
