// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/memory.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <string>

#include "kernels/base/check.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#if CHUNKSTATE_HAS_CUDA
#include <cuda_runtime_api.h>

#include "kernels/base/workspace.cuh"
#endif

namespace chunkstate {
namespace {

// A row of AVX-512 or a cache line: operators may use aligned loads on whole tensors.
constexpr std::size_t host_alignment = 64;

#if CHUNKSTATE_HAS_CUDA
void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    throw std::bad_alloc();
  }
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorName(status) + ": " +
                           cudaGetErrorString(status));
}
#endif

std::mutex use_mutex;
DeviceMemoryUse device_use;

#if CHUNKSTATE_HAS_CUDA
// Sizes of what allocate() has given.
std::map<const std::byte*, std::int64_t>& device_blocks() {
  static auto* const blocks = new std::map<const std::byte*, std::int64_t>;  // outlives everything
  return *blocks;
}
#endif

// A head's rows of activations lie tokens apart, each on a page of its own: pages of 2 MB keep
// their addresses in the processor's table. Before the memory is touched; without effect where the
// kernel has none.
void ask_for_huge_pages([[maybe_unused]] std::byte* memory, [[maybe_unused]] std::size_t bytes) {
#if defined(__linux__)
  constexpr std::size_t worthwhile = std::size_t{4} << 20;
  constexpr std::uintptr_t page = 4096;
  if (bytes < worthwhile) return;
  const std::uintptr_t begin = (reinterpret_cast<std::uintptr_t>(memory) + page - 1) / page * page;
  const std::uintptr_t end = (reinterpret_cast<std::uintptr_t>(memory) + bytes) / page * page;
  ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

}  // namespace

DeviceMemoryUse device_memory_use() {
  const std::lock_guard lock(use_mutex);
  return device_use;
}

void reset_device_memory_peak() {
  const std::lock_guard lock(use_mutex);
  device_use.peak = device_use.bytes;
}

void count_device_memory(std::int64_t bytes) {
  const std::lock_guard lock(use_mutex);
  device_use.bytes += static_cast<std::size_t>(bytes);  // modulo 2^64: subtracts what is negative
  device_use.peak = std::max(device_use.peak, device_use.bytes);
  if (bytes > 0) ++device_use.allocations;
}

std::byte* allocate(Backend backend, std::size_t bytes) {
  if (bytes == 0) bytes = host_alignment;
  if (backend != Backend::cuda) {
    auto* const memory =
        static_cast<std::byte*>(::operator new(bytes, std::align_val_t(host_alignment)));
    ask_for_huge_pages(memory, bytes);
    return memory;
  }
#if CHUNKSTATE_HAS_CUDA
  void* data = nullptr;
  check(allocate_device(&data, bytes), "cudaMalloc");
  count_device_memory(static_cast<std::int64_t>(bytes));
  const std::lock_guard lock(use_mutex);
  device_blocks()[static_cast<std::byte*>(data)] = static_cast<std::int64_t>(bytes);
  return static_cast<std::byte*>(data);
#else
  throw BackendError("allocate", backend);
#endif
}

void deallocate(Backend backend, std::byte* data) noexcept {
  if (data == nullptr) return;
  if (backend != Backend::cuda) {
    ::operator delete(data, std::align_val_t(host_alignment));
    return;
  }
#if CHUNKSTATE_HAS_CUDA
  std::int64_t bytes = 0;
  {
    const std::lock_guard lock(use_mutex);
    const auto block = device_blocks().find(data);
    if (block != device_blocks().end()) {
      bytes = block->second;
      device_blocks().erase(block);
    }
  }
  count_device_memory(-bytes);
  static_cast<void>(cudaFree(data));
#endif
}

void copy_to_backend(const Executor& exec, std::byte* target, const void* source,
                     std::size_t bytes) {
  if (bytes == 0) return;
  if (exec.backend != Backend::cuda) {
    std::memcpy(target, source, bytes);
    return;
  }
#if CHUNKSTATE_HAS_CUDA
  check(cudaMemcpyAsync(target, source, bytes, cudaMemcpyHostToDevice, exec.stream),
        "cudaMemcpyAsync to device");
#else
  throw BackendError("copy_to_backend", exec.backend);
#endif
}

void copy_to_host(const Executor& exec, void* target, const std::byte* source, std::size_t bytes) {
  if (bytes == 0) return;
  if (exec.backend != Backend::cuda) {
    std::memcpy(target, source, bytes);
    return;
  }
#if CHUNKSTATE_HAS_CUDA
  check(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToHost, exec.stream),
        "cudaMemcpyAsync to host");
  check(cudaStreamSynchronize(exec.stream), "cudaStreamSynchronize");
#else
  throw BackendError("copy_to_host", exec.backend);
#endif
}

void copy_rows(const Executor& exec, std::byte* target, std::size_t target_stride,
               const std::byte* source, std::size_t source_stride, std::size_t bytes,
               std::size_t rows) {
  if (bytes == 0 || rows == 0) return;
  if (exec.backend != Backend::cuda) {
    for (std::size_t row = 0; row < rows; ++row) {
      std::memcpy(target + row * target_stride, source + row * source_stride, bytes);
    }
    return;
  }
#if CHUNKSTATE_HAS_CUDA
  check(cudaMemcpy2DAsync(target, target_stride, source, source_stride, bytes, rows,
                          cudaMemcpyDeviceToDevice, exec.stream),
        "cudaMemcpy2DAsync");
#else
  throw BackendError("copy_rows", exec.backend);
#endif
}

void fill_zero(const Executor& exec, std::byte* data, std::size_t bytes) {
  if (bytes == 0) return;
  if (exec.backend != Backend::cuda) {
    std::memset(data, 0, bytes);
    return;
  }
#if CHUNKSTATE_HAS_CUDA
  check(cudaMemsetAsync(data, 0, bytes, exec.stream), "cudaMemsetAsync");
#else
  throw BackendError("fill_zero", exec.backend);
#endif
}

int device_count() {
#if CHUNKSTATE_HAS_CUDA
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  static_cast<void>(cudaGetLastError());  // no driver is no error here
#endif
  return 0;
}

void use_device(int index) {
#if CHUNKSTATE_HAS_CUDA
  check(cudaSetDevice(index), "cudaSetDevice");
#else
  static_cast<void>(index);
  throw BackendError("use_device", Backend::cuda);
#endif
}

void synchronize(const Executor& exec) {
  if (exec.backend != Backend::cuda) return;
#if CHUNKSTATE_HAS_CUDA
  check(cudaStreamSynchronize(exec.stream), "cudaStreamSynchronize");
#else
  throw BackendError("synchronize", exec.backend);
#endif
}

}  // namespace chunkstate
