// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace chunkstate {

/// Operators that this process has launched; selective_scan counts as its variant's row says, a
/// recording as one each time it is replayed. On a GPU that is about its kernels: a timeline has
/// them exactly.
inline std::atomic<std::int64_t> launched_operators{0};

inline void count_launches(std::int64_t launches = 1) {
  launched_operators.fetch_add(launches, std::memory_order_relaxed);
}

}  // namespace chunkstate
