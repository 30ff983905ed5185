// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "core/gpu_facts.hpp"
#include "experiments/doctor/finding.hpp"
#include "experiments/doctor/rank_facts.hpp"
#include "parallel/communicator.hpp"

namespace chunkstate {

/// What one GPU read of another one's memory.
struct PeerPair {
  std::string host;
  std::string source;  // "rank 0", or "GPU 0" within one process
  std::string target;
  PeerCopy copy;
};

/// All pairs of the GPUs that this process sees.
std::vector<PeerPair> copies_between_visible_gpus();
/// All pairs of ranks of a host that have different GPUs: each reads what the other one's process
/// has lent, as NCCL does. Collective; all pairs on every rank.
std::vector<PeerPair> copies_between_ranks(Communicator& world,
                                           const std::vector<RankFacts>& ranks);

/// What the pairs mean; pure. `ranks` says what each of them sees.
Findings peer_findings(const std::vector<PeerPair>& pairs, const std::vector<RankFacts>& ranks);
/// GB/s from the row's GPU to the column's, a table per host.
std::string peer_table(const std::vector<PeerPair>& pairs);

/// Memory shared by the ranks of a host, sums over all ranks, each rank's GPU, sums over the GPUs
/// through NCCL: done and compared. Collective; the same findings on every rank.
Findings group_findings(Communicator& world, const std::vector<RankFacts>& ranks);

}  // namespace chunkstate
