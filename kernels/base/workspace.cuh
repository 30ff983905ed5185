// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/base/cuda_check.cuh"

namespace chunkstate {

/// Device memory for one operator call, ordered by its stream: what the next call on the stream
/// gets may be the same memory. Nothing is synchronised, and a repeated call asks the driver for
/// nothing.
///
/// May be recorded into a graph, which then keeps the memory to itself. Two launches of one graph
/// must not run side by side. Throws CudaError.
class Workspace {
 public:
  Workspace(std::int64_t bytes, CUstream_st* stream);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  std::int64_t bytes_ = 0;
  CUstream_st* stream_;
  unsigned long long capture_ = 0;  // the recording this memory belongs to; 0: none
};

/// Frees the unused memory of a recording that is gone (capture id `capture`), or of a stream that
/// is about to be (capture 0).
void release_workspaces(CUstream_st* stream, unsigned long long capture);

/// cudaMalloc, and once more after the driver's pool has given back what it keeps for Workspaces.
cudaError_t allocate_device(void** data, std::size_t bytes);

/// What launch functions ask of the current device, read once per device.
struct DeviceLimits {
  int multiprocessors;
  int shared_bytes_per_block;  // with the opt-in
  int compute_capability;      // 90 for 9.0
};
const DeviceLimits& device_limits();

}  // namespace chunkstate
