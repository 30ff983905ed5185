// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/base/tensor_core.cuh"
#include "kernels/ssd/variants/hopper_layout.cuh"

// C B^T of the Hopper scan. It is the same for all heads of a group, so a kernel of its own makes it.
namespace chunkstate::cuda::hopper_scan {

constexpr int product_pitch = state_dim + 8;  // the rows of a fragment fall into different banks

/// C_i B_j of one step and group per block as fragments, bf16, on and below the diagonal. Warp w
/// makes the 16 x 16 blocks (w, 0) to (w, w).
__global__ void __launch_bounds__(group_threads) product_kernel(Scan scan, uint4* products) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  __shared__ __align__(16) __nv_bfloat16 C[block * product_pitch], B[block * product_pitch];
  let_next_kernel_start();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % warp_size;
  const int warp = thread / warp_size;
  const int groups = static_cast<int>(scan.args.B.extent[1]);
  const int step = static_cast<int>(blockIdx.x) / groups;
  const int group = static_cast<int>(blockIdx.x) % groups;
  constexpr int vectors = block * state_dim / 8 / group_threads;
  uint4 c_in[vectors], b_in[vectors];
#pragma unroll
  for (int k = 0; k < vectors; ++k) {
    const int at = k * group_threads + thread, token = step * block + (at >> 4);
    c_in[k] = b_in[k] = make_uint4(0, 0, 0, 0);
    if (token < scan.tokens) {
      c_in[k] = *reinterpret_cast<const uint4*>(scan.args.C.at(token, group, (at & 15) * 8));
      b_in[k] = *reinterpret_cast<const uint4*>(scan.args.B.at(token, group, (at & 15) * 8));
    }
  }
#pragma unroll
  for (int k = 0; k < vectors; ++k) {
    const int at = k * group_threads + thread, offset = (at >> 4) * product_pitch + (at & 15) * 8;
    *reinterpret_cast<uint4*>(&C[offset]) = c_in[k];
    *reinterpret_cast<uint4*>(&B[offset]) = b_in[k];
  }
  __syncthreads();

  float sum[8][4] = {};
  const std::uint32_t c_row =
      shared_address(&C[(warp * 16 + (lane & 15)) * product_pitch + (lane >> 4) * 8]);
  const std::uint32_t b_row =
      shared_address(&B[((lane & 7) + (lane >> 4) * 8) * product_pitch + ((lane >> 3) & 1) * 8]);
#pragma unroll
  for (int k = 0; k < state_dim / 16; ++k) {
    std::uint32_t c[4];
    load_fragments(c, c_row + k * 32);
#pragma unroll
    for (int n = 0; n < block / 16; ++n) {
      if (n > warp) continue;
      std::uint32_t b[4];
      load_fragments(b, b_row + n * 16 * product_pitch * 2 + k * 32);
      multiply_fragments<DType::bf16>(sum[2 * n], c, b[0], b[1]);
      multiply_fragments<DType::bf16>(sum[2 * n + 1], c, b[2], b[3]);
    }
  }
  uint4* const out = products + static_cast<std::int64_t>(blockIdx.x) * (fragment_bytes / 16) +
                     fragment_block(warp, 0) * warp_size + lane;
#pragma unroll
  for (int n = 0; n < block / 16; ++n) {
    if (n > warp) continue;
    const float(&left)[4] = sum[2 * n], (&right)[4] = sum[2 * n + 1];
    out[n * warp_size] = make_uint4(pack_bf16(left[0], left[1]), pack_bf16(left[2], left[3]),
                                    pack_bf16(right[0], right[1]), pack_bf16(right[2], right[3]));
  }
#endif
}

}  // namespace chunkstate::cuda::hopper_scan
