// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "experiments/analysis/table.hpp"
#include "experiments/doctor/rank_facts.hpp"

namespace chunkstate {

using RankSet = std::vector<const RankFacts*>;

/// Ranks by what `key` gives of them, each set in the order of ranks.
template <class Key>
auto sets_by(const RankSet& ranks, const Key& key) {
  std::map<std::decay_t<decltype(key(*ranks.front()))>, RankSet> sets;
  for (const RankFacts* rank : ranks) sets[key(*rank)].push_back(rank);
  return sets;
}

inline RankSet all_of(const std::vector<RankFacts>& ranks) {
  RankSet set;
  for (const RankFacts& rank : ranks) set.push_back(&rank);
  return set;
}

inline auto sets_by_host(const std::vector<RankFacts>& ranks) {
  return sets_by(all_of(ranks), [](const RankFacts& rank) { return rank.place.host; });
}

/// "ranks 0-3".
inline std::string text_of(const RankSet& ranks) {
  std::vector<int> numbers;
  for (const RankFacts* rank : ranks) numbers.push_back(static_cast<int>(rank->place.rank));
  std::sort(numbers.begin(), numbers.end());
  return ranks_text(numbers);
}

}  // namespace chunkstate
