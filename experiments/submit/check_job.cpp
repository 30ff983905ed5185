// SPDX-License-Identifier: Apache-2.0
#include "experiments/submit/check_job.hpp"

#include <fmt/format.h>

#include "core/errors.hpp"

namespace chunkstate {
namespace {

void check_launcher(const SlurmSettings& slurm) {
  if (slurm.launcher == "none" && slurm.nodes * slurm.tasks_per_node > 1) {
    throw UsageError(fmt::format(
        "slurm.launcher: found 'none' for {} ranks, expected srun or mpirun, or one node with one "
        "task",
        slurm.nodes * slurm.tasks_per_node));
  }
}

void check_times(const SlurmSettings& slurm) {
  const std::int64_t before = seconds_of(slurm.signal_before_end);
  if (before > 65535) {  // sbatch's limit
    throw UsageError(fmt::format("slurm.signal_before_end: found {}, expected at most 65535s",
                                 slurm.signal_before_end));
  }
  if (!slurm.time.empty() && before >= seconds_of(slurm.time)) {
    throw UsageError(
        fmt::format("slurm.signal_before_end: found {}, expected less than "
                    "slurm.time, which is {}",
                    slurm.signal_before_end, slurm.time));
  }
}

/// The ranks of a group send each other states or sums in every layer: they share a node's links.
void check_groups(const JobRequest& request) {
  const SlurmSettings& slurm = request.slurm;
  const std::int64_t size = request.parallel.ranks_per_group;
  const std::string& mode = request.parallel.mode;
  if (mode == "data") return;
  if (slurm.gpus_per_node > 0 && slurm.tasks_per_node > slurm.gpus_per_node) {
    throw UsageError(fmt::format(
        "slurm.tasks_per_node: found {}, expected at most slurm.gpus_per_node, which is {}: in "
        "parallel.mode {} each rank needs a GPU of its own",
        slurm.tasks_per_node, slurm.gpus_per_node, mode));
  }
  if (slurm.tasks_per_node % size == 0) return;
  const bool whole_nodes =
      size % slurm.tasks_per_node == 0 && slurm.nodes * slurm.tasks_per_node % size == 0;
  if (mode == "sequence" && whole_nodes) return;
  throw UsageError(fmt::format(
      "parallel.ranks_per_group: found {}, expected a divisor of slurm.tasks_per_node, which is "
      "{}{}: the ranks of a group share a node",
      size, slurm.tasks_per_node,
      mode == "sequence"
          ? fmt::format(", or the ranks of whole nodes of slurm.nodes, which is {}", slurm.nodes)
          : ""));
}

void check_gpus(const SlurmSettings& slurm) {
  if (slurm.gpus_per_node == 0 || slurm.gpu_option != "gpus-per-task") return;
  if (slurm.gpus_per_node % slurm.tasks_per_node != 0) {
    throw UsageError(fmt::format(
        "slurm.gpus_per_node: found {}, expected a multiple of slurm.tasks_per_node, which is {}, "
        "for slurm.gpu_option gpus-per-task",
        slurm.gpus_per_node, slurm.tasks_per_node));
  }
  if (slurm.launcher == "mpirun") {
    throw UsageError(
        "slurm.gpu_option: found 'gpus-per-task' for mpirun, expected gpus-per-node or gres: its "
        "ranks would all see the first GPU only");
  }
}

}  // namespace

void check_job(const JobRequest& request) {
  check_launcher(request.slurm);
  check_times(request.slurm);
  check_gpus(request.slurm);
  check_groups(request);
}

}  // namespace chunkstate
