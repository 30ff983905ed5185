// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <time.h>

namespace chunkstate {

/// CLOCK_MONOTONIC: never steps back, unaffected by NTP steps.
inline double monotonic_seconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace chunkstate
