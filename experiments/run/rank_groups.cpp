// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/rank_groups.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "experiments/run/exit_code.hpp"
#include "parallel/device_group.hpp"

namespace chunkstate {
namespace {

// "90s", "2m": checked when the experiment was read.
double seconds_of(const std::string& duration) {
  const double value = std::strtod(duration.c_str(), nullptr);
  switch (duration.back()) {
    case 'm':
      return 60 * value;
    case 'h':
      return 3600 * value;
    case 'd':
      return 86400 * value;
    default:
      return value;
  }
}

}  // namespace

RankGroups::RankGroups(Communicator& world, const ParallelSettings& settings) {
  const auto size = static_cast<int>(settings.ranks_per_group);
  if (world.size() % size != 0) {
    throw AgreedError({exit_usage, fmt::format("parallel.ranks_per_group: found {}, but the job's "
                                               "{} ranks are no multiple of it",
                                               size, world.size())});
  }
  group_ = world.split(world.rank() / size);

  const std::vector<std::string> hosts = world.all_gather(std::to_string(world.host()));
  std::vector<int> claiming;
  for (std::size_t rank = size - 1; rank < hosts.size(); rank += size) {
    claiming.push_back(std::stoi(hosts[rank]));
  }
  const int mine = claiming[static_cast<std::size_t>(world.rank() / size)];
  std::sort(claiming.begin(), claiming.end());
  claiming.erase(std::unique(claiming.begin(), claiming.end()), claiming.end());
  claiming_hosts_ = static_cast<int>(claiming.size());
  claiming_host_ =
      static_cast<int>(std::lower_bound(claiming.begin(), claiming.end(), mine) - claiming.begin());

  Deadline deadline;
  deadline.exit_code = exit_rank_missing;
  if (!settings.deadline.empty()) {
    deadline.seconds = seconds_of(settings.deadline);
    deadline.adaptive = false;
  }
  world.watch(deadline);
}

void RankGroups::connect_devices(Communicator& world, const std::string& mode) {
  const std::string mine = std::to_string(world.host()) + " " + gpu_bus_id();
  const std::vector<std::string> all = group_->all_gather(mine);
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    const auto first =
        static_cast<std::size_t>(std::find(all.begin(), all.end(), all[rank]) - all.begin());
    if (first == rank) continue;
    throw UsageError(
        fmt::format("parallel.mode {}: ranks {} and {} of a group both have GPU {}, "
                    "expected a GPU of its own for each",
                    mode, first, rank, gpu_bus_id()));
  }
  devices_ =
      make_device_group(*group_, mode == "tensor" ? DeviceTraffic::sums : DeviceTraffic::messages);
}

std::int64_t RankGroups::share(const std::function<std::int64_t()>& value) {
  std::string text = speaks() ? std::to_string(value()) : "";
  group_->broadcast(text, group_->size() - 1);
  return std::stoll(text);
}

}  // namespace chunkstate
