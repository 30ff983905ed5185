// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

#include "parallel/rank_group.hpp"

namespace chunkstate {

/// A clock that only goes forward, in nanoseconds.
using Clock = std::function<std::int64_t()>;

/// How far rank 0's clock is ahead of this rank's at one moment.
struct ClockOffset {
  std::int64_t at_ns = 0;           // when, on this rank's clock
  std::int64_t offset_ns = 0;       // rank 0's clock - this rank's; 0 on rank 0
  std::int64_t uncertainty_ns = 0;  // the true offset is within offset_ns +- this
};

/// Every other rank asks rank 0 for its time `exchanges` times and keeps the shortest round trip:
/// the reply was made somewhere within it, so half of it bounds the error (Cristian 1989).
/// Collective; one rank after another, in a fraction of a millisecond each where the network is
/// quick.
ClockOffset measure_clock_offset(RankGroup& ranks, const Clock& clock, int exchanges = 32);

/// A rank's time on rank 0's clock, from offsets measured before and after, linear between and
/// beyond them.
class ClockCorrection {
 public:
  ClockCorrection(const ClockOffset& before, const ClockOffset& after)
      : before_(before), after_(after) {}

  std::int64_t on_first_rank(std::int64_t time_ns) const;
  /// Nanoseconds per second by which this rank's clock falls behind rank 0's.
  double drift() const;

 private:
  ClockOffset before_;
  ClockOffset after_;
};

}  // namespace chunkstate
