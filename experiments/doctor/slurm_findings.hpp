// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "experiments/doctor/finding.hpp"
#include "experiments/spec/experiment_spec.hpp"

namespace chunkstate {

struct SlurmPartition {
  std::string name;
  bool is_default = false;
  bool is_up = false;
  std::int64_t nodes = 0;
  std::int64_t gpus_per_node = 0;
};

/// What Slurm's commands and variables say on this host.
struct SlurmFacts {
  bool sinfo = false;  // the command is there
  bool sbatch = false;
  std::string failure;  // why sinfo gave no list
  std::vector<SlurmPartition> partitions;
  std::vector<std::string> mpi_plugins;  // of srun --mpi=
  std::string job;                       // id of the allocation that this process is in
  std::string job_nodes;
  std::string job_tasks;
  bool launched = false;  // by srun or mpirun as one of several, or alone as a rank
  std::string mpi;        // library of this program
  std::string site_file;
  std::optional<SlurmSettings> site;
};

/// Asks sinfo and srun, ten seconds each at most. `site_file` may be empty. Throws UsageError if it
/// is no such file.
SlurmFacts ask_slurm(const std::string& site_file, bool launched, const std::string& mpi);

/// What they mean; pure.
Findings slurm_findings(const SlurmFacts& facts);

/// Lines of `sinfo -h -o '%P|%a|%D|%G'`.
std::vector<SlurmPartition> parse_partitions(const std::string& text);
/// What `srun --mpi=list` prints, on whichever channel.
std::vector<std::string> parse_mpi_plugins(const std::string& text);

}  // namespace chunkstate
