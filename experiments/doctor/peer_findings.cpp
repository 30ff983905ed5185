// SPDX-License-Identifier: Apache-2.0
#include "experiments/doctor/peer_findings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "experiments/analysis/table.hpp"

namespace chunkstate {
namespace {

// Enough for a rate over NVLink: 0.1 ms at 300 GB/s.
constexpr std::size_t copy_bytes = std::size_t{32} << 20;

nlohmann::json to_json(const PeerPair& pair) {
  return {pair.host,        pair.source,     pair.target,
          pair.copy.direct, pair.copy.equal, pair.copy.bytes_per_second,
          pair.copy.problem};
}

PeerPair from_json(const nlohmann::json& json) {
  return {json.at(0), json.at(1), json.at(2), {json.at(3), json.at(4), json.at(5), json.at(6)}};
}

/// "rank 0 -> rank 1 of node7 and 5 more".
std::string pairs_text(const std::vector<const PeerPair*>& pairs) {
  const PeerPair& first = *pairs.front();
  std::string text = fmt::format("{} -> {} of {}", first.source, first.target, first.host);
  if (pairs.size() > 1) text += fmt::format(" and {} more", pairs.size() - 1);
  return text;
}

/// Ranks whose processes see one GPU each, though the host has others.
bool each_sees_one(const std::vector<RankFacts>& ranks) {
  return ranks.size() > 1 && std::all_of(ranks.begin(), ranks.end(), [](const RankFacts& rank) {
           return rank.visible_gpus.size() == 1;
         });
}

}  // namespace

std::vector<PeerPair> copies_between_visible_gpus() {
  std::vector<PeerPair> pairs;
  const auto gpus = static_cast<int>(visible_gpus().size());
  const std::string host = collect_rank_provenance().host;
  for (int source = 0; source < gpus; ++source) {
    for (int target = 0; target < gpus; ++target) {
      if (source == target) continue;
      pairs.push_back({host, fmt::format("GPU {}", source), fmt::format("GPU {}", target),
                       copy_between_gpus(source, target, copy_bytes)});
    }
  }
  return pairs;
}

std::vector<PeerPair> copies_between_ranks(Communicator& world,
                                           const std::vector<RankFacts>& ranks) {
  const auto facts = [&](int rank) -> const RankFacts& {
    return ranks[static_cast<std::size_t>(rank)];
  };
  const auto seed = [](int rank) { return static_cast<std::uint64_t>(rank) + 1; };
  const RankFacts& mine = facts(world.rank());
  std::unique_ptr<LentGpuMemory> lent;
  if (!mine.gpu_id.empty()) {
    lent = std::make_unique<LentGpuMemory>(copy_bytes, seed(world.rank()));
  }
  const std::vector<std::string> tickets = world.all_gather(lent ? lent->ticket() : "");
  const std::vector<std::string> problems = world.all_gather(lent ? lent->problem() : "");
  nlohmann::json read = nlohmann::json::array();
  // In turns: every rank reads from another one, nobody from the same.
  for (int turn = 1; turn < world.size(); ++turn) {
    const int from = (world.rank() + turn) % world.size();
    const auto at = static_cast<std::size_t>(from);
    const RankFacts& theirs = facts(from);
    if (lent && theirs.place.host == mine.place.host && !theirs.gpu_id.empty() &&
        theirs.gpu_id != mine.gpu_id) {
      PeerPair pair{
          mine.place.host, fmt::format("rank {}", from), fmt::format("rank {}", world.rank()), {}};
      if (tickets[at].empty()) {
        pair.copy.problem = problems[at];
      } else {
        pair.copy = copy_from_lender(tickets[at], copy_bytes, seed(from));
      }
      read.push_back(to_json(pair));
    }
    world.barrier();
  }
  std::vector<PeerPair> pairs;
  for (const std::string& text :
       world.all_gather(read.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace))) {
    for (const auto& json : nlohmann::json::parse(text)) pairs.push_back(from_json(json));
  }
  return pairs;
}

Findings peer_findings(const std::vector<PeerPair>& pairs, const std::vector<RankFacts>& ranks) {
  Findings findings;
  if (pairs.empty()) return findings;
  std::vector<const PeerPair*> failed, changed, indirect;
  double slowest = 0, fastest = 0;
  for (const PeerPair& pair : pairs) {
    if (!pair.copy.problem.empty()) {
      failed.push_back(&pair);
    } else if (!pair.copy.equal) {
      changed.push_back(&pair);
    } else if (!pair.copy.direct) {
      indirect.push_back(&pair);
    } else {
      const double rate = pair.copy.bytes_per_second;
      slowest = slowest == 0 ? rate : std::min(slowest, rate);
      fastest = std::max(fastest, rate);
    }
  }
  if (!changed.empty()) {
    findings.push_back({Severity::problem, "peer",
                        pairs_text(changed) + ": the copy arrived with other bytes",
                        "the bytes that were sent",
                        "switch the IOMMU off (intel_iommu=off, amd_iommu=off) or ACS on the PCIe "
                        "bridges; until then NCCL_P2P_DISABLE=1"});
  }
  if (!failed.empty()) {
    const char* remedy =
        each_sees_one(ranks)
            ? "let each process see all GPUs of the host (--gpu-bind=none, --gpus-per-node in "
              "place of --gpus-per-task); containers of one host need --ipc=host"
            : "look at nvidia-smi topo -p2p r";
    findings.push_back({Severity::warning, "peer",
                        fmt::format("{}: {}", pairs_text(failed), failed.front()->copy.problem),
                        "direct access: without it NCCL goes through host memory", remedy});
  }
  if (!indirect.empty()) {
    findings.push_back({Severity::warning, "peer",
                        pairs_text(indirect) + ": no direct access, copies go through host memory",
                        "NVLink, or PCIe without a bridge that forbids it",
                        "keep sequence and tensor splits on GPUs that reach each other "
                        "(nvidia-smi topo -m)"});
  }
  if (fastest > 0) {
    findings.push_back({Severity::ok, "peer",
                        fmt::format("{} pairs of GPUs read each other's memory, {:.3g} to {:.3g} "
                                    "GB/s; all bytes compared",
                                    pairs.size() - failed.size() - changed.size() - indirect.size(),
                                    slowest / 1e9, fastest / 1e9),
                        "", ""});
  }
  return findings;
}

std::string peer_table(const std::vector<PeerPair>& pairs) {
  std::vector<std::string> hosts;
  for (const PeerPair& pair : pairs) {
    if (std::find(hosts.begin(), hosts.end(), pair.host) == hosts.end()) hosts.push_back(pair.host);
  }
  std::string text;
  for (const std::string& host : hosts) {
    std::vector<std::string> places;
    for (const PeerPair& pair : pairs) {
      if (pair.host == host && std::find(places.begin(), places.end(), pair.source) == places.end())
        places.push_back(pair.source);
    }
    std::sort(places.begin(), places.end(), [](const std::string& a, const std::string& b) {
      return a.size() != b.size() ? a.size() < b.size() : a < b;
    });
    std::vector<std::string> header = {host + ", GB/s to"};
    header.insert(header.end(), places.begin(), places.end());
    Table table(header);
    for (const std::string& source : places) {
      std::vector<std::string> row = {source};
      for (const std::string& target : places) {
        const auto pair = std::find_if(pairs.begin(), pairs.end(), [&](const PeerPair& one) {
          return one.host == host && one.source == source && one.target == target;
        });
        row.push_back(pair == pairs.end()           ? "-"
                      : !pair->copy.problem.empty() ? "fails"
                      : !pair->copy.equal           ? "WRONG"
                                          : format_number(pair->copy.bytes_per_second / 1e9) +
                                                (pair->copy.direct ? "" : " (host)"));
      }
      table.add(row);
    }
    text += table.text();
  }
  return text;
}

}  // namespace chunkstate
