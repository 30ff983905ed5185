// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/executor.hpp"

namespace chunkstate {

/// Moves `bytes` from one place in the backend's memory to another, as fast as the machine can:
/// with streaming stores on all threads of the executor (cpu). For measuring copy bandwidth.
void probe_copy(const Executor& exec, std::byte* target, const std::byte* source,
                std::size_t bytes);

/// Reads `bytes` once, as fast as the machine can; returns a checksum so that no read can be
/// skipped. Host backends only: throws BackendError for cuda.
std::uint64_t probe_read(const Executor& exec, const std::byte* source, std::size_t bytes);

/// A place that operands come from, by how much memory is in use.
struct MemoryLevel {
  std::string name;
  std::int64_t footprint = 0;  // bytes
};

/// The levels of this backend's machine, from the registers (cuda) or the first cache (cpu) down.
std::vector<MemoryLevel> memory_levels(const Executor& exec);

/// Reads the footprint of `level` over and over, on all threads of the executor or all
/// multiprocessors, from `data` of at least that size. Returns the bytes read, milliseconds' worth.
/// On cuda in stream order.
double probe_level(const Executor& exec, const MemoryLevel& level, const std::byte* data);

namespace cuda {
std::vector<MemoryLevel> memory_levels();
double probe_level(const MemoryLevel& level, const std::byte* data, CUstream_st* stream);
}  // namespace cuda

}  // namespace chunkstate
