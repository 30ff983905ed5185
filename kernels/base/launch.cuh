// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <string_view>

#include "kernels/base/cuda_check.cuh"
#include "kernels/base/workspace.cuh"

// Kernels that start while the one before them in the stream still runs, so that launching costs a
// chain of short kernels nothing. On Hopper and later; elsewhere they start in order.
namespace chunkstate {

/// Until the kernels before this one in the stream are complete and their results visible. A kernel
/// launched by launch_overlapping reads and writes nothing before it.
__device__ __forceinline__ void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the next kernel of the stream start where it can. It waits for this one's end all the same.
__device__ __forceinline__ void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Both: for kernels that have nothing to do ahead.
__device__ __forceinline__ void overlap_kernels() {
  let_next_kernel_start();
  wait_for_previous_kernel();
}

/// Launches a kernel that calls wait_for_previous_kernel, with so much dynamic shared memory.
/// Throws CudaError, which names `what`.
template <class... Parameters, class... Arguments>
void launch_overlapping_shared(std::string_view what, void (*kernel)(Parameters...),
                               unsigned blocks, unsigned threads, unsigned shared_bytes,
                               CUstream_st* stream, const Arguments&... arguments) {
  cudaLaunchAttribute attribute = {};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = device_limits().compute_capability >= 90 ? 1 : 0;
  check_cuda(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), what);
}

/// The same without.
template <class... Parameters, class... Arguments>
void launch_overlapping(std::string_view what, void (*kernel)(Parameters...), unsigned blocks,
                        unsigned threads, CUstream_st* stream, const Arguments&... arguments) {
  launch_overlapping_shared(what, kernel, blocks, threads, 0, stream, arguments...);
}

}  // namespace chunkstate
