// SPDX-License-Identifier: Apache-2.0
#include "experiments/plan/shard.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/errors.hpp"
#include "parallel/partition.hpp"

namespace chunkstate {

Shard parse_shard(const std::string& text) {
  if (text.empty()) return {};
  const char* const end = text.data() + text.size();
  Shard shard;
  const auto index = std::from_chars(text.data(), end, shard.index);
  const bool has_slash = index.ec == std::errc() && index.ptr != end && *index.ptr == '/';
  const auto count = std::from_chars(has_slash ? index.ptr + 1 : end, end, shard.count);
  if (!has_slash || count.ec != std::errc() || count.ptr != end || shard.count < 1 ||
      shard.count > max_shards || shard.index < 0 || shard.index >= shard.count) {
    // As few bytes as make the mistake clear: the text may be anything.
    std::string shown = text.substr(0, 40);
    std::ranges::replace_if(
        shown, [](char c) { return c < 0x20 || c == 0x7F; }, '?');
    throw UsageError(
        fmt::format("--shard: found '{}', expected I/N with I from 0 to N - 1 and N from 1 to {}",
                    shown, max_shards));
  }
  return shard;
}

std::string to_string(const Shard& shard) {
  return shard.whole() ? "whole" : fmt::format("{}/{}", shard.index, shard.count);
}

std::vector<int> shard_of_items(const std::vector<WorkItem>& plan, int count) {
  std::vector<double> costs;
  costs.reserve(plan.size());
  for (const WorkItem& item : plan) costs.push_back(std::max(item.cost, 1.0));
  const auto shards = balance(costs, count);
  std::vector<int> shard_of(plan.size());
  for (int shard = 0; shard < count; ++shard) {
    for (const std::int64_t item : shards[static_cast<std::size_t>(shard)]) {
      shard_of[static_cast<std::size_t>(item)] = shard;
    }
  }
  return shard_of;
}

}  // namespace chunkstate
