// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/record/journal.hpp"
#include "experiments/run/job.hpp"
#include "experiments/run/progress.hpp"
#include "experiments/run/rank_groups.hpp"
#include "experiments/run/request_runner.hpp"

namespace chunkstate {

/// The work loop of a rank in a group: the group's last rank claims and records, all of them run.
class GroupWork {
 public:
  /// `journal` may be null if nothing is to do.
  GroupWork(const Job& job, RankGroups& groups, JournalWriter* journal, Progress& progress);

  /// Runs what `counter` deals of `items` (indices into the plan) until nothing is left or a signal
  /// or too many failures stop it; the exit code. What goes wrong on this rank alone ends the job.
  int run(const std::vector<std::int64_t>& items, SharedCounter& counter);

 private:
  std::int64_t next_turn(const std::vector<std::int64_t>& items, SharedCounter& counter) const;
  bool is_poison(const WorkItem& item);
  void run_item(const WorkItem& item, bool suspect);

  const Job job_;
  RankGroups& groups_;
  JournalWriter* journal_;
  Progress& progress_;
  RequestRunner runner_;
  std::int64_t failures_ = 0;
};

}  // namespace chunkstate
