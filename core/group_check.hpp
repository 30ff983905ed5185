// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "kernels/base/executor.hpp"
#include "parallel/rank_group.hpp"

namespace chunkstate {

/// Adds up numbers over the ranks, in memory of `backend`: empty, or what came out wrong.
/// Collective.
std::string wrong_sum(RankGroup& sums, Backend backend);

}  // namespace chunkstate
