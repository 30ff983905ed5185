// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "experiments/doctor/machine_findings.hpp"
#include "experiments/doctor/rank_sets.hpp"

namespace chunkstate {
namespace {

constexpr const char* same_library =
    "use mpirun of the MPI library that chunkstate was built with, or another srun --mpi= "
    "(srun --mpi=list)";

Finding job_finding(const std::vector<RankFacts>& ranks, std::size_t hosts) {
  const RankFacts& first = ranks.front();
  const auto found = static_cast<std::int64_t>(ranks.size());
  if (found == 1 && first.launched > 1) {
    return {Severity::problem, "mpi",
            fmt::format("{} took each of the {} processes that the launcher started for a job of "
                        "its own",
                        first.mpi, first.launched),
            fmt::format("one job of {} ranks", first.launched), same_library};
  }
  if (found == 1 && first.launched == 0 && first.step_tasks > 1) {
    return {
        Severity::problem, "mpi",
        fmt::format("srun started {} processes that know nothing of each other", first.step_tasks),
        fmt::format("one job of {} ranks", first.step_tasks),
        "start it with srun --mpi=pmix (srun --mpi=list says what there is)"};
  }
  if (found == 1 && first.launched == 0) {
    return {Severity::ok, "mpi", fmt::format("one process, without a launcher; {}", first.mpi), "",
            ""};
  }
  return {Severity::ok, "mpi",
          fmt::format("{} on {}; {}", counted(found, "rank"), counted(hosts, "host"), first.mpi),
          "", ""};
}

/// The ranks that are not as the first one.
template <class Field>
void compare(Findings& findings, const std::vector<RankFacts>& ranks, const char* what,
             Severity severity, const char* remedy, const Field& field) {
  RankSet others;
  for (const RankFacts& rank : ranks) {
    if (field(rank) != field(ranks.front())) others.push_back(&rank);
  }
  if (others.empty()) return;
  findings.push_back(
      {severity, "alike",
       fmt::format("{} has {} '{}'", text_of({others.front()}), what, field(*others.front())),
       fmt::format("'{}', as rank {}", field(ranks.front()), ranks.front().place.rank), remedy});
}

}  // namespace

Findings launch_findings(const std::vector<RankFacts>& ranks) {
  Findings findings;
  const auto hosts = sets_by_host(ranks);
  findings.push_back(job_finding(ranks, hosts.size()));
  const auto sizes = std::minmax_element(
      hosts.begin(), hosts.end(),
      [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  const auto& [fewest, most] = sizes;
  if (fewest->second.size() != most->second.size()) {
    findings.push_back({Severity::warning, "mpi",
                        fmt::format("{} on {}, {} on {}", counted(fewest->second.size(), "rank"),
                                    fewest->first, most->second.size(), most->first),
                        "as many on each host",
                        "srun --ntasks-per-node=N, mpirun --map-by ppr:N:node"});
  }
  compare(findings, ranks, "the program", Severity::problem, "start the same binary everywhere",
          [](const RankFacts& rank) { return rank.build; });
  compare(findings, ranks, "the MPI library", Severity::problem, "load the same modules everywhere",
          [](const RankFacts& rank) { return rank.mpi; });
  compare(findings, ranks, "the processor", Severity::warning,
          "ask for nodes of one kind (slurm.constraint): times of unlike nodes do not compare",
          [](const RankFacts& rank) { return rank.place.cpu_model; });
  compare(findings, ranks, "the GPU", Severity::warning,
          "ask for nodes of one kind (slurm.constraint): times of unlike GPUs do not compare",
          [](const RankFacts& rank) { return rank.place.gpu_name; });
  compare(findings, ranks, "the GPU driver", Severity::warning, "update the drivers",
          [](const RankFacts& rank) { return rank.place.driver; });
  return findings;
}

}  // namespace chunkstate
