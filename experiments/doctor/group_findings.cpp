// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <set>
#include <sstream>

#include "core/group_check.hpp"
#include "experiments/doctor/peer_findings.hpp"
#include "experiments/doctor/rank_sets.hpp"
#include "parallel/device_group.hpp"

namespace chunkstate {
namespace {

/// What `body` says went wrong, or throws, on the first rank where it does; "rank 3: ...".
template <class Body>
std::string first_trouble(Communicator& world, const Body& body) {
  std::string mine;
  try {
    mine = body();
  } catch (const std::exception& error) {
    mine = error.what();
  }
  const std::vector<std::string> all = world.all_gather(mine);
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (!all[rank].empty()) return fmt::format("rank {}: {}", rank, all[rank]);
  }
  return "";
}

/// Every rank draws numbers from its host's counter: together they must have got each one once.
std::string counted_wrong(Communicator& world) {
  constexpr int draws = 100;
  const auto counter = make_shared_counter(world);
  std::string mine = std::to_string(world.host());
  for (int i = 0; i < draws; ++i) mine += ' ' + std::to_string(counter->next());
  std::set<std::int64_t> seen;
  for (const std::string& text : world.all_gather(mine)) {
    std::istringstream numbers(text);
    std::int64_t host = 0, number = 0;
    numbers >> host;
    while (host == world.host() && numbers >> number) seen.insert(number);
  }
  const auto expected = static_cast<std::size_t>(draws * world.local_size());
  if (seen.size() == expected && *seen.rbegin() == static_cast<std::int64_t>(expected) - 1) {
    return "";
  }
  return fmt::format("{} numbers drawn from the shared counter, expected {}", seen.size(),
                     expected);
}

bool gpus_of_their_own(const std::vector<RankFacts>& ranks) {
  std::set<std::pair<std::string, std::string>> gpus;
  for (const RankFacts& rank : ranks) {
    if (rank.gpu_id.empty() || !gpus.emplace(rank.place.host, rank.gpu_id).second) return false;
  }
  return true;
}

Findings nccl_findings(Communicator& world, const std::vector<RankFacts>& ranks) {
  const RankFacts& first = ranks.front();
  if (first.nccl.empty()) {
    return {{Severity::note, "nccl",
             "not in this build: parallel.mode sequence and tensor run on CPUs alone", "", ""}};
  }
  if (world.size() == 1) {
    return {{Severity::ok, "nccl", first.nccl + "; more is seen with a rank per GPU", "", ""}};
  }
  if (!gpus_of_their_own(ranks)) {
    return {{Severity::note, "nccl", first.nccl + ": not tried, a GPU for each rank is missing", "",
             ""}};
  }
  const std::string trouble = first_trouble(world, [&] {
    const auto group = make_device_group(world, DeviceTraffic::sums);
    return wrong_sum(*group, Backend::cuda);
  });
  if (!trouble.empty()) {
    return {{Severity::problem, "nccl", trouble, "sums over all GPUs",
             "NCCL_DEBUG=INFO shows the way it took; NCCL_P2P_DISABLE=1, NCCL_NVLS_ENABLE=0 or "
             "NCCL_SOCKET_IFNAME narrow it down"}};
  }
  const auto nvls = first.environment.find("NCCL_NVLS_ENABLE");
  return {{Severity::ok, "nccl",
           fmt::format("{}: sums over {} GPUs are right; NVLink multicast is {}", first.nccl,
                       world.size(),
                       nvls == first.environment.end() ? "NCCL's choice"
                       : nvls->second == "0"           ? "off"
                                                       : "on"),
           "", ""}};
}

}  // namespace

Findings group_findings(Communicator& world, const std::vector<RankFacts>& ranks) {
  Findings findings;
  if (world.size() > 1) {
    const std::string sums = first_trouble(world, [&] { return wrong_sum(world, Backend::cpu); });
    const std::string counter = first_trouble(world, [&] { return counted_wrong(world); });
    for (const std::string& trouble : {sums, counter}) {
      if (trouble.empty()) continue;
      findings.push_back({Severity::problem, "mpi", trouble, "what one rank alone computes",
                          "look at the MPI installation: its transports, /dev/shm"});
    }
    if (findings.empty()) {
      findings.push_back({Severity::ok, "mpi",
                          "sums over ranks and memory shared by a host's ranks are right", "", ""});
    }
  }
  const bool gpu = std::any_of(ranks.begin(), ranks.end(),
                               [](const RankFacts& rank) { return !rank.gpu_id.empty(); });
  if (!gpu) return findings;
  const std::string device = first_trouble(world, [&]() -> std::string {
    if (ranks[static_cast<std::size_t>(world.rank())].gpu_id.empty()) return "";
    return wrong_sum(*make_local_communicator(), Backend::cuda);
  });
  if (!device.empty()) {
    findings.push_back({Severity::problem, "gpu", device, "memory that keeps what is written to it",
                        "look at nvidia-smi: compute mode, ECC errors, other processes"});
    return findings;
  }
  append(findings, nccl_findings(world, ranks));
  return findings;
}

}  // namespace chunkstate
