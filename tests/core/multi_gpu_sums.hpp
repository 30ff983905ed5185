// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "parallel/communicator.hpp"

namespace chunkstate {

/// Thousands of sums of random shapes and types through the peer memory of `sums`, replayed from a
/// recorded graph while ranks fall behind each other, against sums in fp64. Prints one row on rank
/// 0. Collective. Whether all of them were right; false too without peer memory, unless that is
/// switched off (NCCL_P2P_DISABLE=1).
bool check_peer_sums(Communicator& world, RankGroup& sums);

}  // namespace chunkstate
