// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer/byte_pair_merges.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <queue>
#include <utility>

namespace chunkstate {
namespace {

// Up to here a scan over all pairs for each merge is faster than a heap.
constexpr std::size_t few_tokens = 64;

constexpr std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
         static_cast<std::uint32_t>(right);
}

constexpr std::size_t slot_index(std::uint64_t pair, std::size_t slots) {
  return static_cast<std::size_t>((pair * 0x9E3779B97F4A7C15U) >> 32) & (slots - 1);
}

}  // namespace

BytePairMerges::BytePairMerges(const std::vector<Merge>& merges)
    : slots_(std::bit_ceil(2 * merges.size() + 2)) {
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::uint64_t pair = pair_key(merges[rank].left, merges[rank].right);
    std::size_t i = slot_index(pair, slots_.size());
    while (slots_[i].rank != no_rank && slots_[i].pair != pair) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = {pair, static_cast<std::int32_t>(rank), merges[rank].joined};
  }
}

const BytePairMerges::Slot& BytePairMerges::slot(std::int32_t left, std::int32_t right) const {
  const std::uint64_t pair = pair_key(left, right);
  std::size_t i = slot_index(pair, slots_.size());
  while (slots_[i].rank != no_rank && slots_[i].pair != pair) i = (i + 1) & (slots_.size() - 1);
  return slots_[i];
}

void BytePairMerges::apply(std::vector<std::int32_t>& tokens) const {
  if (tokens.size() <= few_tokens) {
    apply_to_few(tokens);
  } else {
    apply_to_many(tokens);
  }
}

void BytePairMerges::apply_to_few(std::vector<std::int32_t>& tokens) const {
  std::array<const Slot*, few_tokens> pairs;  // pairs[i] joins tokens i and i + 1
  std::size_t count = tokens.size();
  for (std::size_t i = 0; i + 1 < count; ++i) pairs[i] = &slot(tokens[i], tokens[i + 1]);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) {
      if (pairs[i]->rank < pairs[best]->rank) best = i;
    }
    if (pairs[best]->rank == no_rank) break;
    tokens[best] = pairs[best]->joined;
    --count;
    for (std::size_t i = best + 1; i < count; ++i) tokens[i] = tokens[i + 1];
    for (std::size_t i = best + 1; i + 1 < count; ++i) pairs[i] = pairs[i + 1];
    if (best > 0) pairs[best - 1] = &slot(tokens[best - 1], tokens[best]);
    if (best + 1 < count) pairs[best] = &slot(tokens[best], tokens[best + 1]);
  }
  tokens.resize(count);
}

void BytePairMerges::apply_to_many(std::vector<std::int32_t>& tokens) const {
  const auto end = static_cast<std::int32_t>(tokens.size());
  std::vector<std::int32_t> previous(tokens.size());
  std::vector<std::int32_t> next(tokens.size());
  std::vector<const Slot*> pairs(tokens.size(), nullptr);   // of a token and its next one
  using Candidate = std::pair<std::int32_t, std::int32_t>;  // rank, position
  std::vector<Candidate> candidates;

  const auto pair_at = [&](std::int32_t i) {
    pairs[i] = next[i] == end ? nullptr : &slot(tokens[i], tokens[next[i]]);
    if (pairs[i] != nullptr && pairs[i]->rank == no_rank) pairs[i] = nullptr;
    return pairs[i];
  };
  for (std::int32_t i = 0; i < end; ++i) {
    previous[i] = i - 1;
    next[i] = i + 1;
    if (const Slot* pair = pair_at(i)) candidates.emplace_back(pair->rank, i);
  }
  std::priority_queue heap(std::greater<Candidate>{}, std::move(candidates));

  while (!heap.empty()) {
    const auto [rank, i] = heap.top();
    heap.pop();
    // A candidate is stale when its pair has changed since; no two pairs have one rank.
    if (pairs[i] == nullptr || pairs[i]->rank != rank) continue;
    const std::int32_t gone = next[i];
    tokens[i] = pairs[i]->joined;
    pairs[gone] = nullptr;
    next[i] = next[gone];
    if (next[i] != end) previous[next[i]] = i;
    for (const std::int32_t changed : {previous[i], i}) {
      if (changed < 0) continue;
      if (const Slot* pair = pair_at(changed)) heap.emplace(pair->rank, changed);
    }
  }
  std::size_t count = 0;
  for (std::int32_t i = 0; i != end; i = next[i]) tokens[count++] = tokens[i];
  tokens.resize(count);
}

}  // namespace chunkstate
