// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "experiments/doctor/finding.hpp"
#include "experiments/doctor/rank_facts.hpp"

namespace chunkstate {

// What the facts of all ranks, in their order, mean. Pure: no rank and no device is asked.

/// Whether the launcher started one job of these ranks, all of the same program.
Findings launch_findings(const std::vector<RankFacts>& ranks);
/// Threads against cores, containers' limits and bindings.
Findings cpu_findings(const std::vector<RankFacts>& ranks);
/// Driver and build, a GPU for each rank, GPUs next to their ranks' cores.
Findings gpu_findings(const std::vector<RankFacts>& ranks);
/// Shared memory, limits of the processes, environment, hosts that differ.
Findings host_findings(const std::vector<RankFacts>& ranks);

}  // namespace chunkstate
