// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace chunkstate {

struct IsolatedResult {
  std::string text;     // what the function returned
  std::string failure;  // empty, or how the child ended: "signal 11 (Segmentation fault)", "time
                        // limit of 60 s"
};

/// Runs `body` in a child process with limits on memory (beyond what this process has) and time,
/// its stderr discarded, without core dumps. For code that may crash on hostile input: HDF5 does on
/// some damaged files. `body` must not throw. Throws std::system_error if no child can be made.
IsolatedResult run_isolated(const std::function<std::string()>& body,
                            std::int64_t more_memory_bytes, unsigned seconds);

}  // namespace chunkstate
