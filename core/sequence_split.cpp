// SPDX-License-Identifier: Apache-2.0
#include "core/sequence_split.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/cost.hpp"
#include "core/trace.hpp"
#include "kernels/base/memory.hpp"

namespace chunkstate {
namespace {

// Blocks of the exact scan. It is also more than the tokens up to which operators take a path of
// their own, with other roundings, for few tokens.
constexpr std::int64_t least_tokens = 64;

// A FLOP of attention takes so many times what one of all else does. One H200, Bamba-9B in bf16:
// 29.7 us a token in a prefill of 32,768 and 34.1 us in one of 131,072 make 550 TFLOP/s of
// attention's, and 625 of the others with what is no FLOP.
constexpr double attention_weight = 1.14;

// Device memory is slow to get: one block lasts for a model.
constexpr std::int64_t copies_per_block = 32;

std::int64_t seam_tokens(const SsdSettings& ssd) {
  // `default` is exact, but its stages round chunk by chunk.
  const bool by_chunks =
      ssd.variant->semantics != SsdSemantics::exact || ssd.variant->name == "default";
  if (!by_chunks) return least_tokens;
  return (least_tokens + ssd.chunk_size - 1) / ssd.chunk_size * ssd.chunk_size;
}

}  // namespace

SequenceSplit::SequenceSplit(RankGroup& group, std::vector<Range> ranges)
    : group_(group), ranges_(std::move(ranges)), owner_(-1) {
  if (static_cast<int>(ranges_.size()) != group.size()) {
    throw std::invalid_argument("SequenceSplit: " + std::to_string(ranges_.size()) +
                                " ranges for " + std::to_string(group.size()) + " ranks");
  }
  std::int64_t next = 0;
  for (int rank = 0; rank < group.size(); ++rank) {
    const Range& range = ranges_[static_cast<std::size_t>(rank)];
    if (range.begin != next || range.end < next) {
      throw std::invalid_argument("SequenceSplit: rank " + std::to_string(rank) + " has tokens " +
                                  std::to_string(range.begin) + " to " + std::to_string(range.end) +
                                  ", expected to begin at " + std::to_string(next));
    }
    next = range.end;
    if (range.size() == 0) continue;
    owner_ = rank;
    if (rank < group.rank()) neighbours_.left = rank;
    if (rank > group.rank() && neighbours_.right < 0) neighbours_.right = rank;
  }
  if (owner_ < 0) throw std::invalid_argument("SequenceSplit: no tokens");
}

void SequenceSplit::exchange_window(const Executor& exec, const AnyView<2>& rows,
                                    const AnyView<2>& window) {
  const std::int64_t history = window.extent[0];
  const std::int64_t channels = window.extent[1];
  const std::int64_t fresh = std::min(history, rows.extent[0]);
  const std::size_t row_bytes = static_cast<std::size_t>(channels) * bytes_of(rows.dtype);
  if (history == 0) return;
  AnyView<2> next;
  if (neighbours_.right >= 0) {
    next = take_copy(exec, rows.dtype, history, channels);
    copy_rows(exec, next.at(history - fresh, 0), row_bytes, rows.at(rows.extent[0] - fresh, 0),
              static_cast<std::size_t>(rows.stride[0]) * bytes_of(rows.dtype), row_bytes,
              static_cast<std::size_t>(fresh));
    // The right rank waits for this: it does not depend on the left one unless the range is short.
    if (fresh == history) group_.post(bytes_of_rows(next), neighbours_.right);
  }
  if (neighbours_.left >= 0) {
    const TraceRegion region("receive", TraceDetail::step);
    group_.receive(bytes_of_rows(window), neighbours_.left);
  }
  if (neighbours_.right >= 0 && fresh < history) {
    copy_rows(exec, next.at(0, 0), row_bytes, window.at(fresh, 0), row_bytes, row_bytes,
              static_cast<std::size_t>(history - fresh));
    group_.post(bytes_of_rows(next), neighbours_.right);
  }
}

AnyView<2> SequenceSplit::take_copy(const Executor& exec, DType dtype, std::int64_t rows,
                                    std::int64_t channels) {
  if (free_copies_ == 0) {
    outgoing_.emplace_back(exec.backend, dtype,
                           std::vector<std::int64_t>{copies_per_block, rows, channels});
    free_copies_ = copies_per_block;
  }
  return outgoing_.back().view<3>()[--free_copies_];
}

void SequenceSplit::exchange_rows(const AnyView<3>& cache) {
  const auto rows_of = [&](int rank) {
    const Range& range = ranges_[static_cast<std::size_t>(rank)];
    return bytes_of_rows(cache.slice(0, range.begin, range.end));
  };
  for (int to = group_.rank() + 1; to < group_.size(); ++to) {
    if (!rows_of(to).empty()) group_.post(rows_of(group_.rank()), to);
  }
  const TraceRegion region("receive", TraceDetail::step);
  for (int from = 0; from < group_.rank(); ++from) {
    if (!rows_of(from).empty()) group_.receive(rows_of(from), from);
  }
}

void SequenceSplit::flush() {
  const TraceRegion region("flush", TraceDetail::step);
  group_.flush();
  outgoing_.clear();
  free_copies_ = 0;
}

std::vector<Range> split_ranges(const ModelConfig& config, const SsdSettings& ssd,
                                std::int64_t tokens, int ranks) {
  const std::int64_t seam = seam_tokens(ssd);
  // A ragged rest belongs to the last whole unit: alone it might be too few tokens.
  const std::int64_t units = std::max<std::int64_t>(tokens / seam, 1);
  // A unit costs `flat`, and `rise` more for every unit before it.
  const double flat = forward_cost(config, {}, ssd, 0, seam, 0).flops;
  const double rise =
      attention_weight * (forward_cost(config, {}, ssd, seam, seam, 0).flops - flat);
  const auto cost = [&](double count) { return count * (flat + 0.5 * rise * count); };
  const auto whole = static_cast<double>(units);

  std::vector<Range> ranges(static_cast<std::size_t>(ranks));
  std::int64_t end = units;
  for (int rank = ranks - 1; rank >= 0; --rank) {
    // The unit at which cost(begin) is rank / ranks of the whole: a root of a quadratic.
    const double share = cost(whole) * rank / ranks;
    const double begin_exact = 2.0 * share / (flat + std::sqrt(flat * flat + 2.0 * rise * share));
    // Each rank takes at least one unit as long as there are any: the last ranks come first.
    auto begin = std::min<std::int64_t>(std::llround(begin_exact), end - 1);
    begin = std::max<std::int64_t>(begin, 0);
    if (end == 0) begin = 0;
    ranges[static_cast<std::size_t>(rank)] = {begin * seam, end == units ? tokens : end * seam};
    end = begin;
  }
  return ranges;
}

}  // namespace chunkstate
