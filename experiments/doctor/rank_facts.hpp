// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "experiments/record/provenance.hpp"
#include "parallel/communicator.hpp"

namespace chunkstate {

/// What one rank knows of itself and of its host: all that the findings are made from. Empty, 0 and
/// -1 mean unknown or none.
struct RankFacts {
  RankProvenance place;              // rank, host, CPUs, threads, the GPU it computes on
  std::string build;                 // commit of this program
  std::string mpi;                   // library
  std::int64_t launched = 0;         // processes, by the launcher's word
  std::int64_t step_tasks = 0;       // by srun's
  std::string group_cpus;            // that the job may use on this host
  std::int64_t physical_cores = -1;  // of the CPUs that it may run on
  double cpu_limit = 0;              // processors' worth of time, by control groups

  std::vector<std::string> visible_gpus;  // PCI addresses
  std::string gpu_id;                     // of the one it computes on; parts of one GPU differ
  std::string gpu_cpus;                   // CPUs next to that
  bool gpu_exclusive = false;             // only one process may compute on it
  std::int64_t driver_gpus = 0;           // that the host's driver has
  std::int64_t driver = 0;                // newest CUDA that the driver serves, 13000 for 13.0
  std::int64_t runtime = 0;               // CUDA of this build; 0: none
  std::string gpu_problem;
  std::string nccl;  // version; empty: not in this build

  std::int64_t shared_memory = -1;  // bytes free in /dev/shm
  std::int64_t open_files = -1;     // limits of this process; -1: none
  std::int64_t file_bytes = -1;
  std::int64_t address_bytes = -1;
  std::map<std::string, std::string> environment;  // variables that change what is measured
};

/// Of this process. `with_gpu`: as `run` on a GPU it takes the one of its rank on the host.
/// `threads` per rank, 0: its part of the CPUs. Collective.
RankFacts collect_rank_facts(Communicator& world, bool with_gpu, std::int64_t threads);

std::string to_json(const RankFacts& facts);
/// Throws nlohmann::json::exception if it was not made by to_json().
RankFacts rank_facts_from_json(const std::string& text);

/// "rank 3", "ranks 0-3,7".
std::string ranks_text(const std::vector<int>& ranks);

/// rank, host, GPU, PCI address, NUMA nodes of the GPU and of the CPUs, CPUs, threads: a line per
/// rank.
std::string binding_table(const std::vector<RankProvenance>& ranks);

}  // namespace chunkstate
