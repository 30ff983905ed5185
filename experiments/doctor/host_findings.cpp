// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "experiments/analysis/table.hpp"
#include "experiments/doctor/machine_findings.hpp"
#include "experiments/doctor/rank_sets.hpp"

namespace chunkstate {
namespace {

constexpr std::int64_t mebibyte = std::int64_t{1} << 20;

std::string bytes_text(std::int64_t bytes) { return format_bytes(static_cast<double>(bytes)); }

/// MPI's messages within a host, NCCL's staging buffers and weights that ranks share lie there.
void check_shared_memory(Findings& findings, const std::string& host, const RankSet& ranks) {
  const std::int64_t found = ranks.front()->shared_memory;
  const std::int64_t expected = 256 * mebibyte + 64 * mebibyte * std::int64_t(ranks.size());
  if (ranks.front()->place.ranks < 2 || found >= expected) return;
  findings.push_back({found < 16 * mebibyte ? Severity::problem : Severity::warning, "shm",
                      found < 0 ? fmt::format("no /dev/shm on {}", host)
                                : fmt::format("{} free in /dev/shm on {}", bytes_text(found), host),
                      fmt::format("{} for {} ranks", bytes_text(expected), ranks.size()),
                      "remove stale files there, or start the container with a larger one "
                      "(--shm-size, --ipc=host)"});
}

void check_limits(Findings& findings, const RankFacts& rank) {
  const auto add = [&](Severity severity, std::string found, std::string expected,
                       const char* flag) {
    findings.push_back({severity, "limits", std::move(found), std::move(expected),
                        fmt::format("ulimit -{} unlimited, or the hard limit", flag)});
  };
  if (rank.open_files >= 0 && rank.open_files < 1024) {
    add(rank.open_files < 64 ? Severity::problem : Severity::warning,
        fmt::format("{} open files for {}", rank.open_files, text_of({&rank})), "1024 or more",
        "n");
  }
  if (rank.file_bytes >= 0) {
    add(rank.file_bytes < 64 * mebibyte ? Severity::problem : Severity::warning,
        fmt::format("files of {} end at {}", text_of({&rank}), bytes_text(rank.file_bytes)),
        "no limit", "f");
  }
  if (rank.address_bytes >= 0) {
    add(Severity::warning,
        fmt::format("{} has {} of addresses", text_of({&rank}), bytes_text(rank.address_bytes)),
        "no limit: weights are mapped as a whole, and CUDA reserves addresses for all memory", "v");
  }
}

void check_environment(Findings& findings, const RankFacts& rank) {
  std::string nccl;
  for (const auto& [name, value] : rank.environment) {
    const auto slows = [&](const char* what) {
      findings.push_back({Severity::warning, "environment", fmt::format("{}={}", name, value), what,
                          "unset " + name});
    };
    if (name == "CUDA_LAUNCH_BLOCKING" && value != "0") slows("launches that do not wait");
    if (name == "NCCL_P2P_DISABLE" && value != "0") slows("GPUs that read each other's memory");
    if (name == "NCCL_SHM_DISABLE" && value != "0") slows("shared memory between ranks of a host");
    if (name.starts_with("NCCL_")) nccl += fmt::format(" {}={}", name, value);
  }
  if (!nccl.empty()) {
    findings.push_back({Severity::note, "environment", "settings of NCCL:" + nccl, "", ""});
  }
}

}  // namespace

Findings host_findings(const std::vector<RankFacts>& ranks) {
  Findings findings;
  for (const auto& [host, members] : sets_by_host(ranks)) {
    check_shared_memory(findings, host, members);
    check_limits(findings, *members.front());
  }
  if (findings.empty()) {
    const RankFacts& first = ranks.front();
    findings.push_back({Severity::ok, "limits",
                        fmt::format("{} free in /dev/shm, {} open files",
                                    bytes_text(first.shared_memory), first.open_files),
                        "", ""});
  }
  check_environment(findings, ranks.front());
  return findings;
}

}  // namespace chunkstate
