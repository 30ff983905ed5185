// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "experiments/record/journal.hpp"
#include "experiments/run/job.hpp"
#include "experiments/run/progress.hpp"
#include "experiments/run/request_runner.hpp"

namespace chunkstate {

/// The work loop of a rank in parallel.mode data: it claims, runs and records whole items.
class DataWork {
 public:
  /// `journal` may be null if nothing is to do.
  DataWork(const Job& job, JournalWriter* journal, Progress& progress);

  /// Runs what `counter` deals of `items` (indices into the plan) until nothing is left or a signal
  /// or too many failures stop it; the exit code.
  int run(const std::vector<std::int64_t>& items, SharedCounter& counter);

 private:
  void run_item(const WorkItem& item, bool suspect);

  const Job job_;
  JournalWriter* journal_;
  Progress& progress_;
  RequestRunner runner_;
  std::int64_t failures_ = 0;
};

}  // namespace chunkstate
