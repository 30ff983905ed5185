// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace chunkstate {

struct CommandResult {
  bool found = true;  // there is such a command in PATH
  bool timed_out = false;
  int code = 0;  // 128 + the signal's number if one ended it
  std::string output;
  std::string errors;

  bool good() const { return found && !timed_out && code == 0; }
};

/// Runs a command of PATH without input and waits for it; after `seconds` (0: never) it and what it
/// started are killed. Throws std::system_error if no process can be made.
CommandResult run_command(std::vector<std::string> words, int seconds = 0);

}  // namespace chunkstate
