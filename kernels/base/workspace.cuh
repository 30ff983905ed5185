// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/base/cuda_check.cuh"

namespace chunkstate {

/// Device memory for one operator call, ordered by its stream: allocated after the work before it
/// and given back after the work before the destructor, without a synchronisation. From the
/// device's own pool, which keeps what it has, so that a repeated call asks the driver for nothing.
/// May be recorded into a graph.
class Workspace {
 public:
  Workspace(std::int64_t bytes, CUstream_st* stream);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <class T>
  T* as(std::int64_t byte_offset = 0) const {
    return reinterpret_cast<T*>(static_cast<char*>(data_) + byte_offset);
  }

 private:
  void* data_ = nullptr;
  CUstream_st* stream_;
};

/// What launch functions ask of the current device, read once per device.
struct DeviceLimits {
  int multiprocessors;
  int shared_bytes_per_block;  // with the opt-in
  int compute_capability;      // 90 for 9.0
};
const DeviceLimits& device_limits();

}  // namespace chunkstate
