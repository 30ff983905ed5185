// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/executor.hpp"
#include "parallel/rank_group.hpp"

namespace chunkstate {

/// One kind of traffic between the ranks of a group.
struct CommBenchRow {
  std::string what;
  std::int64_t bytes = 0;  // of one message, or that one rank gives
  double seconds = 0;      // of one, everything launched included; the slowest rank's
  double bus_bytes = 0;    // per second over the busiest connection of a rank
};

/// What the engine's layers send, at Bamba-9B's sizes: window and state from rank to rank (there
/// and back between the first two), keys and values to all ranks to the right, sums of all; on GPUs
/// the sums of a decode step as a recorded graph runs them too, with and without peer memory.
/// `messages` and `sums` have the same ranks and memory of `backend`; at least two. Collective.
std::vector<CommBenchRow> bench_communication(RankGroup& messages, RankGroup& sums, Backend backend,
                                              int repeats);

}  // namespace chunkstate
