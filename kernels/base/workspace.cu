// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include "kernels/base/memory.hpp"
#include "kernels/base/workspace.cuh"

namespace chunkstate {
namespace {

constexpr int max_devices = 64;

int current_device() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "current device");
  if (device >= max_devices) {
    throw CudaError("device " + std::to_string(device) + ": at most " +
                    std::to_string(max_devices) + " devices are supported");
  }
  return device;
}

int attribute(cudaDeviceAttr name, int device) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, name, device), "device attribute");
  return value;
}

unsigned long long current_capture(CUstream_st* stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  unsigned long long id = 0;
  check_cuda(cudaStreamGetCaptureInfo(stream, &status, &id), "workspace capture");
  return status == cudaStreamCaptureStatusActive ? id : 0;
}

// The driver's pool gives back what is free whenever someone synchronises, and mapping it again
// takes longer than the kernels that use it (537 MB: 5 ms). Here it keeps it.
void keep_pool() {
  static std::array<std::once_flag, max_devices> once;
  const int device = current_device();
  std::call_once(once[device], [&] {
    cudaMemPool_t pool = nullptr;
    std::uint64_t all = UINT64_MAX;
    check_cuda(cudaDeviceGetDefaultMemPool(&pool, device), "memory pool");
    check_cuda(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all), "memory pool");
  });
}

/// Gives back what the pool keeps and no Workspace uses.
bool trim_pool() {
  int device = 0;
  cudaMemPool_t pool = nullptr;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetDefaultMemPool(&pool, device) == cudaSuccess &&
         cudaMemPoolTrimTo(pool, 0) == cudaSuccess;
}

// While a graph is recorded, the driver refuses allocations that could order work; this one cannot.
void* allocate_relaxed(std::int64_t bytes) {
  auto mode = cudaStreamCaptureModeRelaxed;
  check_cuda(cudaThreadExchangeStreamCaptureMode(&mode), "workspace mode");
  void* data = nullptr;
  const cudaError_t error = allocate_device(&data, static_cast<std::size_t>(bytes));
  check_cuda(cudaThreadExchangeStreamCaptureMode(&mode), "workspace mode");
  check_cuda(error, "workspace");
  count_device_memory(bytes);
  return data;
}

// Free blocks by who may use them next: the same stream's later calls, or the same recording's.
class BlockCache {
 public:
  /// The smallest free block that is large enough, or a new one in place of all smaller ones, so
  /// that a stream holds about as much as its largest call takes. And its size.
  std::pair<void*, std::int64_t> take(CUstream_st* stream, unsigned long long capture,
                                      std::int64_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      const Key key{current_device(), stream, capture, bytes};
      const auto found = free_.lower_bound(key);
      if (found != free_.end() && same_owner(found->first, key)) {
        const std::pair block(found->second, std::get<3>(found->first));
        free_.erase(found);
        return block;
      }
      if (capture == 0) release_smaller(key);
    }
    return {allocate_relaxed(bytes), bytes};
  }

  void put(CUstream_st* stream, unsigned long long capture, std::int64_t bytes, void* data) {
    const std::lock_guard lock(mutex_);
    int device = 0;
    if (cudaGetDevice(&device) == cudaSuccess) {
      free_.insert({{device, stream, capture, bytes}, data});
    }
  }

  void release(CUstream_st* stream, unsigned long long capture) {
    const std::lock_guard lock(mutex_);
    for (auto block = free_.begin(); block != free_.end();) {
      const auto& [device, of_stream, of_capture, bytes] = block->first;
      const bool matches =
          capture != 0 ? of_capture == capture : of_capture == 0 && of_stream == stream;
      if (matches) free_block(*block);
      block = matches ? free_.erase(block) : std::next(block);
    }
  }

 private:
  using Key = std::tuple<int, CUstream_st*, unsigned long long, std::int64_t>;

  static bool same_owner(const Key& a, const Key& b) {
    return std::get<0>(a) == std::get<0>(b) && std::get<1>(a) == std::get<1>(b) &&
           std::get<2>(a) == std::get<2>(b);
  }
  static void free_block(const std::pair<const Key, void*>& block) {
    count_device_memory(-std::get<3>(block.first));
    static_cast<void>(cudaFree(block.second));
  }
  void release_smaller(const Key& key) {
    const auto& [device, stream, capture, bytes] = key;
    const auto begin = free_.lower_bound({device, stream, capture, 0});
    const auto end = free_.lower_bound(key);
    if (begin == end) return;
    check_cuda(cudaStreamSynchronize(stream), "workspace");  // its kernels may still use them
    for (auto block = begin; block != end; ++block) free_block(*block);
    free_.erase(begin, end);
  }

  std::mutex mutex_;
  std::multimap<Key, void*> free_;
};

BlockCache& cache() {
  static auto* const instance = new BlockCache;  // outlives everything: the driver frees at exit
  return *instance;
}

}  // namespace

Workspace::Workspace(std::int64_t bytes, CUstream_st* stream)
    : bytes_(scratch_size(bytes)), stream_(stream) {
  if (bytes_ == 0) return;
  if (bytes_ <= largest_kept_scratch) {
    capture_ = current_capture(stream);
    std::tie(data_, bytes_) = cache().take(stream, capture_, bytes_);
  } else {  // back to the driver's pool after the call: only baselines need so much
    keep_pool();
    check_cuda(cudaMallocAsync(&data_, static_cast<std::size_t>(bytes_), stream), "workspace");
    count_device_memory(bytes_);
  }
}

Workspace::~Workspace() {
  if (data_ == nullptr) return;
  if (bytes_ <= largest_kept_scratch) {
    cache().put(stream_, capture_, bytes_, data_);
  } else {
    count_device_memory(-bytes_);
    (void)cudaFreeAsync(data_, stream_);  // an error here is sticky and reported by the next check
  }
}

cudaError_t allocate_device(void** data, std::size_t bytes) {
  const cudaError_t error = cudaMalloc(data, bytes);
  if (error != cudaErrorMemoryAllocation) return error;
  static_cast<void>(cudaGetLastError());
  return trim_pool() ? cudaMalloc(data, bytes) : error;
}

void release_workspaces(CUstream_st* stream, unsigned long long capture) {
  cache().release(stream, capture);
  if (capture == 0) static_cast<void>(trim_pool());
}

const DeviceLimits& device_limits() {
  static std::array<std::once_flag, max_devices> once;
  static std::array<DeviceLimits, max_devices> limits{};
  const int device = current_device();
  std::call_once(once[device], [&] {
    limits[device] = {attribute(cudaDevAttrMultiProcessorCount, device),
                      attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
                      10 * attribute(cudaDevAttrComputeCapabilityMajor, device) +
                          attribute(cudaDevAttrComputeCapabilityMinor, device)};
  });
  return limits[device];
}

}  // namespace chunkstate
