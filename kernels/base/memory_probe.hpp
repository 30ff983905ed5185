// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/base/executor.hpp"

namespace chunkstate {

/// Moves `bytes` from one place in the backend's memory to another, as fast as the machine can:
/// with streaming stores on all threads of the executor (cpu). For measuring copy bandwidth.
void probe_copy(const Executor& exec, std::byte* target, const std::byte* source,
                std::size_t bytes);

/// Reads `bytes` once, as fast as the machine can; returns a checksum so that no read can be
/// skipped. Host backends only: throws BackendError for cuda.
std::uint64_t probe_read(const Executor& exec, const std::byte* source, std::size_t bytes);

}  // namespace chunkstate
