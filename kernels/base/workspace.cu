// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <bit>
#include <iterator>
#include <map>
#include <mutex>
#include <tuple>

#include "kernels/base/workspace.cuh"

namespace chunkstate {
namespace {

constexpr int max_devices = 64;
// Larger blocks go back to the driver's pool after the call: only baselines need them.
constexpr std::int64_t largest_kept = std::int64_t{64} << 20;
constexpr std::int64_t smallest = 4096;

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

// While a graph is recorded, the driver refuses allocations that could order work; this one cannot.
void* allocate_relaxed(std::int64_t bytes) {
  auto mode = cudaStreamCaptureModeRelaxed;
  check_cuda(cudaThreadExchangeStreamCaptureMode(&mode), "workspace mode");
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, static_cast<std::size_t>(bytes));
  check_cuda(cudaThreadExchangeStreamCaptureMode(&mode), "workspace mode");
  check_cuda(error, "workspace");
  return data;
}

// Free blocks by who may use them next: the same stream's later calls, or the same recording's.
class BlockCache {
 public:
  void* take(CUstream_st* stream, unsigned long long capture, std::int64_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      const auto found = free_.find({current_device(), stream, capture, bytes});
      if (found != free_.end()) {
        void* const data = found->second;
        free_.erase(found);
        return data;
      }
    }
    return allocate_relaxed(bytes);
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
      if (matches) static_cast<void>(cudaFree(block->second));
      block = matches ? free_.erase(block) : std::next(block);
    }
  }

 private:
  using Key = std::tuple<int, CUstream_st*, unsigned long long, std::int64_t>;
  std::mutex mutex_;
  std::multimap<Key, void*> free_;
};

BlockCache& cache() {
  static auto* const instance = new BlockCache;  // outlives everything: the driver frees at exit
  return *instance;
}

}  // namespace

Workspace::Workspace(std::int64_t bytes, CUstream_st* stream) : stream_(stream) {
  if (bytes <= 0) return;
  bytes_ = bytes < smallest
               ? smallest
               : static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(bytes)));
  if (bytes_ <= largest_kept) {
    capture_ = current_capture(stream);
    data_ = cache().take(stream, capture_, bytes_);
  } else {
    check_cuda(cudaMallocAsync(&data_, static_cast<std::size_t>(bytes), stream), "workspace");
  }
}

Workspace::~Workspace() {
  if (data_ == nullptr) return;
  if (bytes_ <= largest_kept) {
    cache().put(stream_, capture_, bytes_, data_);
  } else {
    (void)cudaFreeAsync(data_, stream_);  // an error here is sticky and reported by the next check
  }
}

void release_workspaces(CUstream_st* stream, unsigned long long capture) {
  cache().release(stream, capture);
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
