// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <set>

#include "experiments/doctor/machine_findings.hpp"
#include "experiments/doctor/rank_sets.hpp"

namespace chunkstate {
namespace {

std::set<int> cpus_of(const std::string& list) {
  const std::vector<int> cpus = parse_cpu_list(list);
  return {cpus.begin(), cpus.end()};
}

std::int64_t threads_of(const RankSet& ranks) {
  std::int64_t threads = 0;
  for (const RankFacts* rank : ranks) threads += rank->place.threads;
  return threads;
}

std::string demand(const RankSet& ranks) {
  const std::int64_t each = ranks.front()->place.threads;
  for (const RankFacts* rank : ranks) {
    if (rank->place.threads != each) return counted(threads_of(ranks), "thread");
  }
  return counted(ranks.size(), "rank") + " x " + counted(each, "thread");
}

std::string cpus_text(const std::string& list) {
  return fmt::format("{} ({})", counted(cpus_of(list).size(), "CPU"), list);
}

constexpr const char* fewer_threads =
    "start fewer ranks or threads (parallel.threads), or ask for more CPUs (slurm.cpus_per_task)";

/// A set of CPUs is oversubscribed if the ranks that have nothing else need more; the one with the
/// most threads per CPU.
void check_threads(Findings& findings, const std::string& host, const RankSet& ranks) {
  const auto by_cpus = sets_by(ranks, [](const RankFacts& rank) { return rank.place.cpus; });
  double most = 1;
  Finding worst_one;
  for (const auto& [list, unused] : by_cpus) {
    const std::set<int> cpus = cpus_of(list);
    if (cpus.empty()) continue;
    RankSet inside;
    for (const auto& [other, members] : by_cpus) {
      const std::set<int> theirs = cpus_of(other);
      if (std::includes(cpus.begin(), cpus.end(), theirs.begin(), theirs.end())) {
        inside.insert(inside.end(), members.begin(), members.end());
      }
    }
    const double load = static_cast<double>(threads_of(inside)) / static_cast<double>(cpus.size());
    if (load <= most) continue;
    most = load;
    const bool bound = cpus_of(ranks.front()->group_cpus).size() > cpus.size();
    worst_one = {Severity::problem, "cores",
                 fmt::format("{} on {} have {} for {}", text_of(inside), host, cpus_text(list),
                             demand(inside)),
                 "a CPU for each thread",
                 bound ? "bind ranks to CPUs of their own (mpirun --bind-to none, srun "
                         "--cpu-bind=cores --cpus-per-task=N)"
                       : fewer_threads};
  }
  if (worst_one.severity == Severity::problem) findings.push_back(worst_one);
}

void check_limit(Findings& findings, const std::string& host, const RankSet& ranks) {
  const double limit = ranks.front()->cpu_limit;
  const auto threads = static_cast<double>(threads_of(ranks));
  if (limit <= 0 || threads <= limit + 0.01) return;
  findings.push_back({Severity::problem, "cores",
                      fmt::format("the container on {} gets the time of {:.3g} CPUs for {}", host,
                                  limit, demand(ranks)),
                      "a CPU for each thread", fewer_threads});
}

void check_idle(Findings& findings, const std::string& host, const RankSet& ranks) {
  std::set<int> used;
  for (const RankFacts* rank : ranks) used.merge(cpus_of(rank->place.cpus));
  const std::set<int> all = cpus_of(ranks.front()->group_cpus);
  if (ranks.front()->place.ranks < 2 || used.size() >= all.size()) return;
  // What a rank on a GPU needs of the processor is little.
  const bool gpu = !ranks.front()->gpu_id.empty();
  findings.push_back({gpu ? Severity::note : Severity::warning, "binding",
                      fmt::format("{} on {} are bound to {} of the job's {} CPUs", text_of(ranks),
                                  host, used.size(), all.size()),
                      gpu ? "" : "all of them",
                      gpu ? "" : "mpirun --bind-to none; srun --cpus-per-task=N"});
}

void check_siblings(Findings& findings, const std::string& host, const RankSet& ranks) {
  for (const auto& [list, sharers] :
       sets_by(ranks, [](const RankFacts& rank) { return rank.place.cpus; })) {
    const std::int64_t cores = sharers.front()->physical_cores;
    if (cores <= 0 || threads_of(sharers) <= cores) continue;
    if (threads_of(sharers) > static_cast<std::int64_t>(cpus_of(list).size())) continue;
    findings.push_back({Severity::note, "cores",
                        fmt::format("{} on {}: {} on {} physical cores, two hardware threads each",
                                    text_of(sharers), host, demand(sharers), cores),
                        "", ""});
    return;
  }
}

/// OpenMP pins threads to the first of the CPUs that a rank may use: of all ranks the same ones.
void check_pinning(Findings& findings, const std::string& host, const RankSet& ranks) {
  for (const auto& [list, sharers] :
       sets_by(ranks, [](const RankFacts& rank) { return rank.place.cpus; })) {
    if (sharers.size() < 2) continue;
    for (const auto& [name, value] : sharers.front()->environment) {
      const bool pins = (name == "OMP_PROC_BIND" && value != "false" && value != "FALSE") ||
                        name == "GOMP_CPU_AFFINITY" || name == "OMP_PLACES";
      if (!pins) continue;
      findings.push_back({Severity::problem, "binding",
                          fmt::format("{}={} pins the threads of {} on {} to the same CPUs", name,
                                      value, text_of(sharers), host),
                          "threads on CPUs of their own",
                          "unset it, or let the launcher give each rank its CPUs"});
      return;
    }
  }
}

}  // namespace

Findings cpu_findings(const std::vector<RankFacts>& ranks) {
  Findings findings;
  const auto hosts = sets_by_host(ranks);
  for (const auto& [host, members] : hosts) {
    check_threads(findings, host, members);
    check_limit(findings, host, members);
    check_pinning(findings, host, members);
    check_idle(findings, host, members);
    check_siblings(findings, host, members);
  }
  if (worst(findings) < Severity::warning) {
    const auto& [host, members] = *hosts.begin();
    findings.insert(
        findings.begin(),
        {Severity::ok, "cores",
         fmt::format("{} on {}: {} CPUs ({}) for {}{}", text_of(members), host,
                     cpus_of(members.front()->group_cpus).size(), members.front()->group_cpus,
                     demand(members), hosts.size() > 1 ? "; the other hosts likewise" : ""),
         "", ""});
  }
  const std::string& governor = ranks.front().place.governor;
  if (governor == "powersave" || governor == "conservative" || governor == "ondemand") {
    findings.push_back({Severity::note, "cores",
                        fmt::format("frequency governor {}: times vary with the load", governor),
                        "", ""});
  }
  return findings;
}

}  // namespace chunkstate
