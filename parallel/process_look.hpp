// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace chunkstate {

/// What /proc says of a process of this host.
struct ProcessLook {
  char state = 0;           // R, S, D, T (stopped), Z (zombie), ...; 0: there is none
  std::int64_t start = -1;  // clock ticks since boot: with the pid it names one process for ever

  bool ended() const { return state == 0 || state == 'Z' || state == 'X'; }
};

/// Async-signal-safe.
ProcessLook look_at_process(int pid);

}  // namespace chunkstate
