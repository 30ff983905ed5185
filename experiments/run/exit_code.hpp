// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <stdexcept>
#include <string>

namespace chunkstate {

/// Exit codes that users and scripts rely on.
enum ExitCode : int {
  exit_ok = 0,
  exit_error = 1,
  exit_items_failed = 2,
  exit_other_experiment = 3,
  exit_conflict = 4,
  exit_usage = 64,
  exit_bad_input = 65,
  exit_rank_missing = 71,  // a rank of a group is gone or stopped
  exit_stopped_early = 75,
};

/// What a process ends with after an exception, and what it says.
struct Ending {
  int code = exit_ok;
  std::string message;
};
Ending ending_of(const std::exception_ptr& error);

/// In a catch block: prints what went wrong on this rank alone; the exit code.
int report_failure(int rank);

/// An ending that all ranks of a job agreed on.
class AgreedError : public std::runtime_error {
 public:
  explicit AgreedError(const Ending& ending)
      : std::runtime_error(ending.message), code_(ending.code) {}
  int code() const { return code_; }

 private:
  int code_;
};

}  // namespace chunkstate
