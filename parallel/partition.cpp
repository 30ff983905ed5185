// SPDX-License-Identifier: Apache-2.0
#include "parallel/partition.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <queue>
#include <utility>

namespace chunkstate {

std::vector<std::vector<std::int64_t>> balance(std::span<const double> costs, int parts) {
  if (parts <= 0) throw std::out_of_range("balance: " + std::to_string(parts) + " parts");
  for (std::size_t i = 0; i < costs.size(); ++i) {
    if (!(costs[i] > 0) || !std::isfinite(costs[i])) {
      throw std::out_of_range("balance: the cost of item " + std::to_string(i) + " is " +
                              std::to_string(costs[i]) + ", expected a positive number");
    }
  }
  std::vector<std::int64_t> longest_first(costs.size());
  std::iota(longest_first.begin(), longest_first.end(), 0);
  // Stable, so that every rank that computes the split computes the same one.
  std::stable_sort(longest_first.begin(), longest_first.end(),
                   [&](std::int64_t a, std::int64_t b) { return costs[a] > costs[b]; });

  using Load =
      std::pair<double, int>;  // cost so far, part: the least of equals is the lowest index
  std::priority_queue<Load, std::vector<Load>, std::greater<>> least_loaded;
  for (int part = 0; part < parts; ++part) least_loaded.emplace(0.0, part);

  std::vector<std::vector<std::int64_t>> dealt(static_cast<std::size_t>(parts));
  for (const std::int64_t item : longest_first) {
    const auto [cost, part] = least_loaded.top();
    least_loaded.pop();
    dealt[static_cast<std::size_t>(part)].push_back(item);
    least_loaded.emplace(cost + costs[static_cast<std::size_t>(item)], part);
  }
  return dealt;
}

}  // namespace chunkstate
