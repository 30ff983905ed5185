// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "kernels/base/executor.hpp"

namespace chunkstate {

/// Memory that operators of `backend` read and write: host memory, 64-byte aligned, for reference
/// and cpu; device memory for cuda. Contents are uninitialised. Throws std::bad_alloc,
/// BackendError.
std::byte* allocate(Backend backend, std::size_t bytes);
void deallocate(Backend backend, std::byte* data) noexcept;

/// Copies between host memory and memory of `backend`; done on return for host memory, in stream
/// order (to pageable host memory: done on return) for cuda.
void copy_to_backend(const Executor& exec, std::byte* target, const void* source,
                     std::size_t bytes);
void copy_to_host(const Executor& exec, void* target, const std::byte* source, std::size_t bytes);
/// Both in memory of `backend`: `rows` rows of `bytes` each, with strides in bytes.
void copy_rows(const Executor& exec, std::byte* target, std::size_t target_stride,
               const std::byte* source, std::size_t source_stride, std::size_t bytes,
               std::size_t rows);
void fill_zero(const Executor& exec, std::byte* data, std::size_t bytes);
/// What this process has of device memory: through allocate(), and as operators' scratch memory.
/// The driver's and the libraries' own is not in it.
struct DeviceMemoryUse {
  std::size_t bytes = 0;         // now
  std::size_t peak = 0;          // the most since reset_device_memory_peak()
  std::int64_t allocations = 0;  // requests to the driver so far
};
DeviceMemoryUse device_memory_use();
void reset_device_memory_peak();
/// For those who ask the driver themselves: `bytes` more, or less.
void count_device_memory(std::int64_t bytes);

/// Scratch memory of operators on a GPU is kept for the next call up to this size, in powers of
/// two.
inline constexpr std::int64_t largest_kept_scratch = std::int64_t{64} << 20;
/// What scratch memory of `bytes` takes.
constexpr std::int64_t scratch_size(std::int64_t bytes) {
  constexpr std::int64_t smallest = 4096;
  if (bytes <= 0) return 0;
  if (bytes < smallest) return smallest;
  const auto rounded = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(bytes)));
  return rounded <= largest_kept_scratch ? rounded : bytes;
}

/// GPUs that this process can use; 0 without the CUDA backend or a driver.
int device_count();
/// Makes GPU `index`, 0 .. device_count() - 1, this process's current one. Before anything else
/// uses a GPU. Throws std::runtime_error.
void use_device(int index);
/// Returns when everything launched on the executor's stream is done.
void synchronize(const Executor& exec);

}  // namespace chunkstate
