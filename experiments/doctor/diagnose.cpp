// SPDX-License-Identifier: Apache-2.0
#include "experiments/doctor/diagnose.hpp"

#include "experiments/doctor/folder_findings.hpp"
#include "experiments/doctor/machine_findings.hpp"
#include "experiments/doctor/slurm_findings.hpp"
#include "experiments/run/exit_code.hpp"
#include "experiments/run/experiment_setup.hpp"
#include "experiments/run/rank_groups.hpp"

namespace chunkstate {

Diagnosis diagnose(Communicator& world, const DoctorOptions& options) {
  world.watch({.exit_code = exit_rank_missing});
  Diagnosis diagnosis;
  for (const std::string& json :
       world.all_gather(to_json(collect_rank_facts(world, options.with_gpu, options.threads)))) {
    diagnosis.ranks.push_back(rank_facts_from_json(json));
  }
  Findings& findings = diagnosis.findings;
  append(findings, launch_findings(diagnosis.ranks));
  append(findings, cpu_findings(diagnosis.ranks));
  if (options.with_gpu) append(findings, gpu_findings(diagnosis.ranks));
  append(findings, group_findings(world, diagnosis.ranks));
  diagnosis.pairs = world.size() == 1 && options.with_gpu
                        ? copies_between_visible_gpus()
                        : copies_between_ranks(world, diagnosis.ranks);
  append(findings, peer_findings(diagnosis.pairs, diagnosis.ranks));
  append(findings, host_findings(diagnosis.ranks));

  agree(world, [&] {
    if (world.rank() != 0) return;
    const BusyRank asking(world);
    append(findings, folder_findings(options.directory));
    append(findings,
           slurm_findings(ask_slurm(options.site_file, launched_by_mpi(), diagnosis.ranks[0].mpi)));
  });
  append(findings, shared_folder_findings(world, options.directory));
  return diagnosis;
}

}  // namespace chunkstate
