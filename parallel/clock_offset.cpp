// SPDX-License-Identifier: Apache-2.0
#include "parallel/clock_offset.hpp"

#include <cmath>
#include <limits>
#include <span>

namespace chunkstate {
namespace {

void send(RankGroup& ranks, const std::int64_t& value, int to) {
  ranks.post(std::as_bytes(std::span(&value, 1)), to);
  ranks.flush();
}

std::int64_t take(RankGroup& ranks, int from) {
  std::int64_t value = 0;
  ranks.receive(std::as_writable_bytes(std::span(&value, 1)), from);
  return value;
}

ClockOffset ask(RankGroup& ranks, const Clock& clock, int exchanges) {
  ClockOffset best;
  best.uncertainty_ns = std::numeric_limits<std::int64_t>::max();
  take(ranks, 0);  // it is this rank's turn
  for (int i = 0; i < exchanges; ++i) {
    const std::int64_t begin = clock();
    send(ranks, 0, 0);
    const std::int64_t there = take(ranks, 0);
    const std::int64_t end = clock();
    const std::int64_t half = (end - begin + 1) / 2;
    if (half < best.uncertainty_ns) best = {begin + half, there - (begin + half), half};
  }
  return best;
}

}  // namespace

ClockOffset measure_clock_offset(RankGroup& ranks, const Clock& clock, int exchanges) {
  if (ranks.rank() != 0) return ask(ranks, clock, exchanges);
  for (int rank = 1; rank < ranks.size(); ++rank) {
    send(ranks, 0, rank);
    for (int i = 0; i < exchanges; ++i) {
      take(ranks, rank);
      send(ranks, clock(), rank);
    }
  }
  return {clock(), 0, 0};
}

double ClockCorrection::drift() const {
  const std::int64_t seconds = after_.at_ns - before_.at_ns;
  if (seconds <= 0) return 0;
  return 1e9 * static_cast<double>(after_.offset_ns - before_.offset_ns) /
         static_cast<double>(seconds);
}

std::int64_t ClockCorrection::on_first_rank(std::int64_t time_ns) const {
  const double since = static_cast<double>(time_ns - before_.at_ns) * 1e-9;
  return time_ns + before_.offset_ns + std::llround(drift() * since);
}

}  // namespace chunkstate
