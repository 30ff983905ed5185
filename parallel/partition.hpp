// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace chunkstate {

struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

/// The part of `items` that `rank` of `ranks` owns: contiguous, in rank order, sizes differ by at
/// most one, and the union over all ranks is [0, items). Throws std::out_of_range.
inline Range partition(std::int64_t items, int rank, int ranks) {
  if (ranks <= 0 || rank < 0 || rank >= ranks) {
    throw std::out_of_range("partition: rank " + std::to_string(rank) + " of " +
                            std::to_string(ranks));
  }
  const std::int64_t base = items / ranks;
  const std::int64_t extra = items % ranks;
  const std::int64_t begin = rank * base + (rank < extra ? rank : extra);
  return {begin, begin + base + (rank < extra ? 1 : 0)};
}

/// Deals items with the given costs (> 0, any unit) to `parts`, the longest first, each to the part
/// with the least cost so far (lowest index among equals). Returns, per part, its items in the
/// order dealt. The largest part is at most 4/3 of the optimum (Graham 1969).
std::vector<std::vector<std::int64_t>> balance(std::span<const double> costs, int parts);

}  // namespace chunkstate
