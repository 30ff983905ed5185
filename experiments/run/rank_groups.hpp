// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "experiments/run/engine_groups.hpp"
#include "experiments/spec/experiment_spec.hpp"
#include "parallel/communicator.hpp"

namespace chunkstate {

/// What a group's next claim can be instead of an item.
enum Turn : std::int64_t { turn_done = -1, turn_stopped = -2, turn_failures = -3 };

/// The job's ranks in groups of neighbours, each of which works on one item at a time. The last
/// rank of a group holds the end of every sequence, so it samples, records and claims for the
/// group.
class RankGroups {
 public:
  /// Also gives every wait of the job its deadline. Collective. Throws AgreedError if the groups do
  /// not come out even.
  RankGroups(Communicator& world, const ParallelSettings& settings);

  Communicator& group() { return *group_; }
  /// Connects the GPUs of the group's ranks, each with the one it computes on, for `mode`.
  /// Collective over the job. Throws UsageError if two ranks have the same one.
  void connect_devices(Communicator& world, const std::string& mode);
  /// The group for engines on either kind of backend.
  EngineGroups engine_groups() const { return {group_.get(), devices_.get()}; }
  bool speaks() const { return group_->rank() + 1 == group_->size(); }

  /// Of the hosts on which some group's last rank runs: their number, and the place of this
  /// group's among them.
  int claiming_hosts() const { return claiming_hosts_; }
  int claiming_host() const { return claiming_host_; }

  /// What `value` gives on the last rank, on every rank of the group.
  std::int64_t share(const std::function<std::int64_t()>& value);

 private:
  std::unique_ptr<Communicator> group_;
  std::unique_ptr<RankGroup> devices_;
  int claiming_hosts_ = 1;
  int claiming_host_ = 0;
};

/// While it lives, the others tolerate this rank's silence.
class BusyRank {
 public:
  explicit BusyRank(Communicator& world) : world_(world) { world_.busy(true); }
  ~BusyRank() { world_.busy(false); }
  BusyRank(const BusyRank&) = delete;
  BusyRank& operator=(const BusyRank&) = delete;

 private:
  Communicator& world_;
};

}  // namespace chunkstate
