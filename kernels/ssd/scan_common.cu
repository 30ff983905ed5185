// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/cuda_check.cuh"
#include "kernels/ssd/scan_common.cuh"

namespace chunkstate::cuda {
namespace {

// One thread per element of all slots.
template <bool load>
__global__ void __launch_bounds__(row_threads)
    copy_state_kernel(AnyView<4> state, std::int64_t count, float* packed) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * row_threads + threadIdx.x;
  if (index >= count) return;
  const auto [slots, heads, head_dim, state_dim] = state.extent;
  const std::int64_t n = index % state_dim;
  const std::int64_t p = index / state_dim % head_dim;
  const std::int64_t head = index / state_dim / head_dim % heads;
  const std::int64_t slot = index / state_dim / head_dim / heads;
  if constexpr (load) {
    packed[index] = load_element(state.at(slot, head, p, n), state.dtype);
  } else {
    store_element(state.at(slot, head, p, n), state.dtype, packed[index]);
  }
}

}  // namespace

void load_state(const AnyView<4>& state, std::int64_t count, float* packed, CUstream_st* stream) {
  if (!state) {
    check_cuda(cudaMemsetAsync(packed, 0, static_cast<std::size_t>(count) * 4, stream),
               "ssd_scan zero state");
    return;
  }
  copy_state_kernel<true>
      <<<row_blocks(1, count, 1), row_threads, 0, stream>>>(state, count, packed);
  check_cuda(cudaGetLastError(), "ssd_scan state load launch");
}

void store_state(const AnyView<4>& state, std::int64_t count, float* packed, CUstream_st* stream) {
  if (!state) return;
  copy_state_kernel<false>
      <<<row_blocks(1, count, 1), row_threads, 0, stream>>>(state, count, packed);
  check_cuda(cudaGetLastError(), "ssd_scan state store launch");
}

}  // namespace chunkstate::cuda
