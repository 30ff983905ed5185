// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace chunkstate {

/// How this binary was built. Defined in a source file that the build writes anew when the answer
/// changes.
struct BuildInfo {
  std::string version;
  std::string git_commit;  // 40 hex digits, "unknown" outside a git checkout
  bool git_dirty = false;
  std::string git_diff;  // hash of the uncommitted changes; empty if clean
  std::string compiler;
  std::string build_type;
  std::string flags;
  bool cuda = false;
  std::vector<std::pair<std::string, std::string>>
      libraries;  // name, version: those known to CMake
};
const BuildInfo& build_info();

/// Where one process ran: a row of /provenance/ranks. Empty and -1 mean unknown or not applicable.
struct RankProvenance {
  std::int64_t rank = -1;
  std::int64_t ranks = -1;
  std::int64_t local_rank = -1;
  std::string host;
  std::int64_t pid = -1;
  std::string start_utc;
  std::string cpu_model;
  std::int64_t cores = -1;       // physical, of the host
  std::int64_t processors = -1;  // logical, of the host
  std::string cpus;              // logical processors this process may run on: "0-3,8"
  std::string numa;              // NUMA nodes of those: "0"
  std::string governor;          // cpufreq, of the first of those
  std::int64_t memory_bytes = -1;
  std::string os;
  std::string kernel;
  std::int64_t threads = -1;
  std::string backend;
  std::string gpu_name;
  std::string gpu_uuid;
  std::string pci_bus_id;
  std::int64_t gpu_numa = -1;  // NUMA node that the GPU is next to
  std::string driver;
};

/// What this process can find out about its host. The caller fills rank, ranks, local_rank,
/// threads, backend and the GPU's fields.
RankProvenance collect_rank_provenance();

std::string to_json(const RankProvenance& provenance);
/// Fields that are missing or of another type keep their defaults. Throws nothing for well-formed
/// JSON objects.
RankProvenance rank_provenance_from_json(const std::string& json);

/// What is the same for all ranks: the datasets of /provenance.
struct RunProvenance {
  std::string run_id;
  std::string start_utc;
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>>
      build;  // BuildInfo and the libraries found at run time
  std::vector<std::pair<std::string, std::string>>
      slurm;  // SLURM_* variables that say where and how
};

/// `mpi_version`: from mpi_library_version(). The run id is the start time and 8 random hex digits.
RunProvenance collect_run_provenance(const std::vector<std::string>& argv,
                                     const std::string& mpi_version);

/// Logical processors in the kernel's list form: {0, 1, 2, 5} -> "0-2,5".
std::string cpu_list(const std::vector<int>& cpus);
/// The other way: "0-2,5" -> {0, 1, 2, 5}. What is no such list gives nothing.
std::vector<int> parse_cpu_list(const std::string& text);

}  // namespace chunkstate
