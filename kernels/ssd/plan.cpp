// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/plan.hpp"

#include <algorithm>

namespace chunkstate {

std::int64_t isolated_block_tokens(std::int64_t tokens, std::int64_t state_dim) {
  // Multiply-adds per token and element of x, in halves: the pairs, plus writing and reading the
  // state in all blocks but one (bamba.md 4.1, S2, S3 and S5).
  const std::int64_t as_one = tokens + 1;
  const std::int64_t apart = tokens - std::min(tokens, ssd_block_tokens);
  const std::int64_t as_many = ssd_block_tokens + 1 + 4 * state_dim * apart / tokens;
  return tokens <= ssd_longest_block && as_one <= as_many ? tokens : ssd_block_tokens;
}

std::vector<SsdBlock> plan_blocks(SsdSemantics semantics, const SsdArgs& args) {
  const std::int64_t tokens = args.x.extent[0];
  const bool exact = semantics == SsdSemantics::exact;
  const bool isolated = semantics == SsdSemantics::independent ||
                        (semantics == SsdSemantics::lookback && args.lookback == 0);
  std::vector<SsdBlock> blocks;
  for (std::int64_t t = 0; t < tokens;) {
    const std::int64_t position = args.first_position + t;
    const std::int64_t chunk = exact ? 0 : position / args.chunk_size;
    const bool at_border = !exact && position % args.chunk_size == 0;
    const std::int64_t part =
        exact ? tokens : std::min((chunk + 1) * args.chunk_size - position, tokens - t);
    const std::int64_t length =
        isolated && at_border ? isolated_block_tokens(part, args.B.extent[2]) : ssd_block_tokens;
    for (std::int64_t i = 0; i < part; i += length) {
      blocks.push_back({.begin = t + i,
                        .length = std::min(length, part - i),
                        .chunk = chunk,
                        .opens_chunk = at_border && i == 0,
                        .closes_chunk = i + length >= part});
    }
    t += part;
  }
  return blocks;
}

}  // namespace chunkstate
