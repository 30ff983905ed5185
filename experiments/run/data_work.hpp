// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "experiments/record/journal.hpp"
#include "experiments/run/batch_runner.hpp"
#include "experiments/run/job.hpp"
#include "experiments/run/progress.hpp"
#include "experiments/run/request_runner.hpp"

namespace chunkstate {

/// The work loop of a rank in parallel.mode data: it claims, runs and records whole items, those of
/// points whose scenario is offline together. A claimed item that must wait for the batch (of
/// another point, or suspected to kill its process) has no line in the journal yet.
class DataWork {
 public:
  /// `journal` may be null if nothing is to do.
  DataWork(const Job& job, JournalWriter* journal, Progress& progress);

  /// Runs what `counter` deals of `items` (indices into the plan) until nothing is left or a signal
  /// or too many failures stop it; the exit code.
  int run(const std::vector<std::int64_t>& items, SharedCounter& counter);

 private:
  static constexpr std::int64_t no_turn = -1;

  std::int64_t next_turn(const std::vector<std::int64_t>& items, SharedCounter& counter);
  bool begin(const WorkItem& item, bool suspect);
  void run_alone(const WorkItem& item);
  void record(const RequestRecord& record);

  const Job job_;
  JournalWriter* journal_;
  Progress& progress_;
  RequestRunner runner_;
  BatchRunner batch_;
  std::optional<int> code_;  // of the run, once nothing more is claimed
  std::int64_t failures_ = 0;
};

}  // namespace chunkstate
