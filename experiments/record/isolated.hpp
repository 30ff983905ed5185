// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace chunkstate {

struct IsolatedResult {
  std::string text;     // what the function returned
  std::string failure;  // empty, or how the child ended: "signal 11 (Segmentation fault)",
                        // "processor time limit of 3 s", "time limit of 60 s"
};

struct IsolatedLimits {
  std::int64_t more_memory_bytes = 0;  // beyond what this process has
  unsigned processor_seconds = 0;      // for code that loops
  unsigned seconds = 0;                // for a file system that hangs
};

/// Runs `body` in a child process within `limits`, its stderr discarded, without core dumps. For
/// code that may crash on hostile input: HDF5 does on some damaged files. `body` must not throw.
/// Throws std::system_error if no child can be made.
IsolatedResult run_isolated(const std::function<std::string()>& body, const IsolatedLimits& limits);

}  // namespace chunkstate
