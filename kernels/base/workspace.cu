// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <mutex>

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

// A pool of our own: the release threshold of the device's default pool belongs to the application.
cudaMemPool_t pool_of_current_device() {
  static std::array<std::once_flag, max_devices> once;
  static std::array<cudaMemPool_t, max_devices> pools{};
  const int device = current_device();
  std::call_once(once[device], [&] {
    cudaMemPoolProps properties = {};
    properties.allocType = cudaMemAllocationTypePinned;
    properties.location = {cudaMemLocationTypeDevice, device};
    check_cuda(cudaMemPoolCreate(&pools[device], &properties), "workspace pool");
    std::uint64_t keep_all = UINT64_MAX;
    check_cuda(cudaMemPoolSetAttribute(pools[device], cudaMemPoolAttrReleaseThreshold, &keep_all),
               "workspace pool threshold");
  });
  return pools[device];
}

int attribute(cudaDeviceAttr name, int device) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, name, device), "device attribute");
  return value;
}

}  // namespace

Workspace::Workspace(std::int64_t bytes, CUstream_st* stream) : stream_(stream) {
  if (bytes <= 0) return;
  check_cuda(cudaMallocFromPoolAsync(&data_, static_cast<std::size_t>(bytes),
                                     pool_of_current_device(), stream),
             "workspace");
}

Workspace::~Workspace() {
  // An error here is sticky and reported by the next check.
  if (data_ != nullptr) (void)cudaFreeAsync(data_, stream_);
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
