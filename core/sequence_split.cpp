// SPDX-License-Identifier: Apache-2.0
#include "core/sequence_split.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/trace.hpp"
#include "kernels/base/memory.hpp"

namespace chunkstate {
namespace {

// Blocks of the exact scan. It is also more than the tokens up to which operators take a path of
// their own, with other roundings, for few tokens.
constexpr std::int64_t least_tokens = 64;

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
  moved_ = balance_queries(ranges_);
  taken_ = queries_to(group.rank(), moved_);
  for (const MovedQueries& moved : moved_) {
    if (moved.from == group.rank()) given_ = moved;
  }
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

Range SequenceSplit::attended_rows(int from, int to) const {
  const Range& rows = ranges_[static_cast<std::size_t>(from)];
  const Range& own = ranges_[static_cast<std::size_t>(to)];
  if (own.size() == 0) return {};
  const std::int64_t end = std::max(own.end, queries_to(to, moved_).tokens.end);
  return {rows.begin, std::max(rows.begin, std::min(rows.end, end))};
}

// Of any two ranks the lower one sends first: NCCL runs what two ranks exchange in one order. All
// of it is in before attention begins, whose blocks would leave NCCL's no multiprocessor until they
// end: queries sent beside a rank's attention were measured to arrive 60 ms late, with its end.
void SequenceSplit::exchange_rows(const AnyView<3>& keys, const AnyView<3>& values,
                                  const AnyView<2>& queries) {
  const TraceRegion region("receive", TraceDetail::step);
  const int self = group_.rank();
  const auto send = [&](int to) {
    const Range rows = attended_rows(self, to);
    if (rows.size() == 0) return;
    group_.post(bytes_of_rows(keys.slice(0, rows.begin, rows.end)), to);
    group_.post(bytes_of_rows(values.slice(0, rows.begin, rows.end)), to);
  };
  const auto receive = [&](int from) {
    const Range rows = attended_rows(from, self);
    if (rows.size() == 0) return;
    group_.receive_beside(bytes_of_rows(keys.slice(0, rows.begin, rows.end)), from);
    group_.receive_beside(bytes_of_rows(values.slice(0, rows.begin, rows.end)), from);
  };
  for (int to = self + 1; to < group_.size(); ++to) send(to);
  for (int from = 0; from < self; ++from) receive(from);
  for (int to = 0; to < self; ++to) {
    if (to == given_.to) group_.post(bytes_of_rows(queries.slice(0, 0, given_tokens())), to);
    send(to);
  }
  for (int from = self + 1; from < group_.size(); ++from) {
    if (from == taken_.from) group_.receive_beside(bytes_of_rows(taken_queries_), from);
    receive(from);
  }
  group_.join();
}

void SequenceSplit::exchange_outputs(const AnyView<2>& outputs) {
  const TraceRegion region("receive", TraceDetail::step);
  if (taken_.from >= 0) group_.post(bytes_of_rows(taken_outputs_), taken_.from);
  if (given_.to >= 0) {
    group_.receive_beside(bytes_of_rows(outputs.slice(0, 0, given_tokens())), given_.to);
  }
  group_.join();
}

void SequenceSplit::flush() {
  const TraceRegion region("flush", TraceDetail::step);
  group_.flush();
  outgoing_.clear();
  free_copies_ = 0;
}

std::vector<MovedQueries> balance_queries(const std::vector<Range>& ranges) {
  std::vector<int> ranks;  // with tokens
  for (std::size_t rank = 0; rank < ranges.size(); ++rank) {
    if (ranges[rank].size() > 0) ranks.push_back(static_cast<int>(rank));
  }
  // Token t attends to t + 1: a range's share of the work is that of the square of its borders.
  const auto square = [](std::int64_t border) {
    return static_cast<double>(border) * static_cast<double>(border);
  };
  const auto work = [&](const Range& range) { return square(range.end) - square(range.begin); };
  const auto lighter = [&](int a, int b) {
    return work(ranges[static_cast<std::size_t>(a)]) < work(ranges[static_cast<std::size_t>(b)]);
  };
  std::stable_sort(ranks.begin(), ranks.end(), lighter);

  std::vector<MovedQueries> all;
  for (std::size_t i = 0; 2 * i + 1 < ranks.size(); ++i) {
    MovedQueries moved{ranks[ranks.size() - 1 - i], ranks[i], {}};
    if (moved.from < moved.to) continue;  // its queries need keys that come later
    const Range& giver = ranges[static_cast<std::size_t>(moved.from)];
    const double surplus = work(giver) - work(ranges[static_cast<std::size_t>(moved.to)]);
    const auto half =
        static_cast<std::int64_t>(std::sqrt(square(giver.begin) + 0.5 * surplus)) - giver.begin;
    const std::int64_t count =
        std::min(half, giver.size() - least_tokens) / least_tokens * least_tokens;
    if (count <= 0) continue;
    moved.tokens = {giver.begin, giver.begin + count};
    all.push_back(moved);
  }
  return all;
}

MovedQueries queries_to(int rank, const std::vector<MovedQueries>& moved) {
  const auto takes = [rank](const MovedQueries& m) { return m.to == rank; };
  const auto found = std::find_if(moved.begin(), moved.end(), takes);
  return found == moved.end() ? MovedQueries{} : *found;
}

std::vector<Range> split_ranges(const SsdSettings& ssd, std::int64_t tokens, int ranks) {
  const std::int64_t seam = seam_tokens(ssd);
  // A ragged rest belongs to the last whole unit: alone it might be too few tokens.
  const std::int64_t units = std::max<std::int64_t>(tokens / seam, 1);
  const int empty = static_cast<int>(std::max<std::int64_t>(ranks - units, 0));
  std::vector<Range> ranges;
  for (int rank = 0; rank < ranks; ++rank) {
    const Range part = rank < empty ? Range{} : partition(units, rank - empty, ranks - empty);
    ranges.push_back({part.begin * seam, part.end == units ? tokens : part.end * seam});
  }
  return ranges;
}

}  // namespace chunkstate
