// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <vector>

namespace chunkstate {

/// Joins neighbouring tokens, lowest rank first, leftmost among equals, until no known pair is
/// left.
class BytePairMerges {
 public:
  struct Merge {
    std::int32_t left = 0;
    std::int32_t right = 0;
    std::int32_t joined = 0;
  };

  /// The rank of a merge is its index; the last of equal pairs counts.
  explicit BytePairMerges(const std::vector<Merge>& merges);

  /// Replaces `tokens` by the merged ones. O(n log n) for n tokens.
  void apply(std::vector<std::int32_t>& tokens) const;

 private:
  static constexpr std::int32_t no_rank = std::numeric_limits<std::int32_t>::max();

  /// Open addressing; a free slot has rank no_rank.
  struct Slot {
    std::uint64_t pair = 0;
    std::int32_t rank = no_rank;
    std::int32_t joined = 0;
  };

  const Slot& slot(std::int32_t left, std::int32_t right) const;
  void apply_to_few(std::vector<std::int32_t>& tokens) const;
  void apply_to_many(std::vector<std::int32_t>& tokens) const;

  std::vector<Slot> slots_;
};

}  // namespace chunkstate
