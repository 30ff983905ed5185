// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "experiments/plan/work_plan.hpp"

namespace chunkstate {

/// Task `index` of an array of `count` tasks that share one results directory. count 0: no array,
/// the whole experiment.
struct Shard {
  int index = 0;
  int count = 0;
  bool whole() const { return count == 0; }
  bool operator==(const Shard&) const = default;
};

inline constexpr int max_shards = 100000;

/// "I/N" with 0 <= I < N <= max_shards; the whole for an empty text. Throws UsageError.
Shard parse_shard(const std::string& text);

/// "2/8"; "whole" for the whole.
std::string to_string(const Shard& shard);

/// Which of `count` shards each item of the plan belongs to: `balance` over the costs of all items,
/// done or not, so that every task and every restart computes the same split.
std::vector<int> shard_of_items(const std::vector<WorkItem>& plan, int count);

}  // namespace chunkstate
