// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/doctor/finding.hpp"
#include "experiments/doctor/peer_findings.hpp"
#include "experiments/doctor/rank_facts.hpp"
#include "parallel/communicator.hpp"

namespace chunkstate {

struct DoctorOptions {
  std::string directory = ".";  // where results would be written
  std::string site_file;        // of `submit`; empty: none
  bool with_gpu = true;
  std::int64_t threads = 0;  // per rank; 0: its part of the CPUs
};

struct Diagnosis {
  std::vector<RankFacts> ranks;
  std::vector<PeerPair> pairs;
  Findings findings;
};

/// Looks at everything a run of these ranks would use. Collective, on the job's first communicator;
/// the same on every rank but for what rank 0 alone can find: the folder and Slurm. Throws
/// AgreedError for a site file that is none.
Diagnosis diagnose(Communicator& world, const DoctorOptions& options);

}  // namespace chunkstate
