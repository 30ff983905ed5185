// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/model.hpp"
#include "parallel/rank_group.hpp"

namespace chunkstate {

/// Ranks that work on an item together, by where their engines' memory is; nullptr: none.
struct EngineGroups {
  RankGroup* host = nullptr;
  RankGroup* device = nullptr;
  RankGroup* of(Backend backend) const { return backend == Backend::cuda ? device : host; }
};

}  // namespace chunkstate
