// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "experiments/doctor/machine_findings.hpp"
#include "experiments/doctor/rank_sets.hpp"

namespace chunkstate {
namespace {

std::string cuda_text(std::int64_t version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::string visible_text(const RankFacts& rank) {
  const auto found = rank.environment.find("CUDA_VISIBLE_DEVICES");
  if (found == rank.environment.end()) return "CUDA_VISIBLE_DEVICES is not set";
  return "CUDA_VISIBLE_DEVICES=" + found->second;
}

/// Nothing can be said of GPUs; true if so.
bool check_presence(Findings& findings, const std::vector<RankFacts>& ranks) {
  const RankFacts& first = ranks.front();
  if (first.runtime == 0) {
    findings.push_back(
        first.driver_gpus > 0
            ? Finding{Severity::warning, "gpu",
                      fmt::format("{} GPUs on {}, and no CUDA in this build", first.driver_gpus,
                                  first.place.host),
                      "a build with CUDA", "configure with -DCHUNKSTATE_CUDA=ON"}
            : Finding{Severity::note, "gpu", "no CUDA in this build, and no GPU here", "", ""});
    return true;
  }
  RankSet without;
  for (const RankFacts& rank : ranks) {
    if (rank.visible_gpus.empty()) without.push_back(&rank);
  }
  if (without.empty()) return false;
  const RankFacts& blind = *without.front();
  const bool expected = blind.driver_gpus > 0 || without.size() < ranks.size();
  findings.push_back(
      {expected ? Severity::problem : Severity::note, "gpu",
       fmt::format("{} on {} see no GPU of {} ({}; {})", text_of(without), blind.place.host,
                   blind.driver_gpus,
                   blind.gpu_problem.empty() ? "none visible" : blind.gpu_problem,
                   visible_text(blind)),
       expected ? "a GPU for each rank" : "",
       expected ? "ask for GPUs (slurm.gpus_per_node), unset CUDA_VISIBLE_DEVICES, or look at "
                  "nvidia-smi"
                : ""});
  return true;
}

void check_driver(Findings& findings, const RankFacts& first) {
  const std::string both = fmt::format("the driver serves CUDA {}, this build has {}",
                                       cuda_text(first.driver), cuda_text(first.runtime));
  if (first.driver / 1000 < first.runtime / 1000) {
    findings.push_back({Severity::problem, "driver", both,
                        fmt::format("CUDA {} or newer of the driver", first.runtime / 1000),
                        "update the driver, or build with an older CUDA"});
  } else if (first.driver < first.runtime) {
    findings.push_back(
        {Severity::note, "driver", both + ": compatible within a major version", "", ""});
  } else {
    findings.push_back({Severity::ok, "driver", both, "", ""});
  }
}

/// Ranks that share a GPU, on one host.
void check_shared(Findings& findings, const std::string& host, const RankSet& ranks) {
  std::set<std::string> reachable;
  for (const RankFacts* rank : ranks) {
    reachable.insert(rank->visible_gpus.begin(), rank->visible_gpus.end());
  }
  const auto by_gpu = sets_by(ranks, [](const RankFacts& rank) { return rank.gpu_id; });
  for (const auto& [id, sharers] : by_gpu) {
    if (sharers.size() < 2) continue;
    const bool too_many = ranks.size() > reachable.size();
    findings.push_back(
        {Severity::problem, "gpu",
         fmt::format("{} on {} compute on one GPU, {}{}; {}", text_of(sharers), host,
                     sharers.front()->place.pci_bus_id,
                     sharers.front()->gpu_exclusive ? ", which takes only one process" : "",
                     visible_text(*sharers.front())),
         "a GPU of its own for each rank",
         too_many ? fmt::format("start {} on this host, or give the job more GPUs "
                                "(--gpus-per-node, not --gpus-per-task, under mpirun)",
                                counted(reachable.size(), "rank"))
                  : "let every rank see all GPUs of the host: rank i takes the i-th"});
  }
  if (by_gpu.size() < reachable.size()) {
    findings.push_back(
        {Severity::note, "gpu",
         fmt::format("{} of {} GPUs of {} are used", by_gpu.size(), reachable.size(), host), "",
         ""});
  }
}

bool contains(const std::string& list, std::int64_t value) {
  const std::vector<int> values = parse_cpu_list(list);
  return std::find(values.begin(), values.end(), value) != values.end();
}

void check_numa(Findings& findings, const RankFacts& rank) {
  const RankProvenance& place = rank.place;
  if (place.gpu_numa < 0 || place.numa.empty() || contains(place.numa, place.gpu_numa)) return;
  findings.push_back(
      {Severity::warning, "numa",
       fmt::format("rank {} on {} runs on NUMA node {} (CPUs {}), its GPU {} is on node {}",
                   place.rank, place.host, place.numa, place.cpus, place.pci_bus_id,
                   place.gpu_numa),
       fmt::format("CPUs {}", rank.gpu_cpus.empty() ? fmt::format("of node {}", place.gpu_numa)
                                                    : rank.gpu_cpus),
       fmt::format("srun --cpu-bind=map_ldom:..., mpirun --bind-to none, or numactl "
                   "--cpunodebind={}",
                   place.gpu_numa)});
}

}  // namespace

Findings gpu_findings(const std::vector<RankFacts>& ranks) {
  Findings findings;
  if (check_presence(findings, ranks)) return findings;
  check_driver(findings, ranks.front());
  for (const auto& [host, members] : sets_by_host(ranks)) check_shared(findings, host, members);
  if (worst(findings) < Severity::warning) {
    findings.push_back({Severity::ok, "gpu", "each rank has a GPU of its own", "", ""});
  }
  const std::size_t before = findings.size();
  bool known = true;
  for (const RankFacts& rank : ranks) {
    check_numa(findings, rank);
    known = known && rank.place.gpu_numa >= 0;
  }
  if (findings.size() > before) return findings;
  findings.push_back(
      known ? Finding{Severity::ok, "numa", "GPUs are next to their ranks' CPUs", "", ""}
            : Finding{Severity::note, "numa",
                      "the system does not say which CPUs are next to the GPUs", "", ""});
  return findings;
}

}  // namespace chunkstate
