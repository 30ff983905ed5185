// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/cuda_check.cuh"
#include "kernels/base/elements.cuh"
#include "kernels/gated_rms_norm/gated_rms_norm.hpp"

namespace chunkstate::cuda {
namespace {

// x * silu(z), rounded nowhere.
template <int N>
__device__ void load_gated(const GatedRmsNormArgs& args, std::int64_t token, std::int64_t c,
                           float (&value)[N]) {
  float z[N];
  load_elements(args.x.at(token, c), args.x.dtype, value);
  load_elements(args.z.at(token, c), args.z.dtype, z);
#pragma unroll
  for (int k = 0; k < N; ++k) value[k] *= silu(z[k]);
}

// One block per token. The row and its gate are read twice; the second read hits L1 (32 KiB at
// Bamba-9B in bf16), and the gate is computed again rather than kept.
template <int N>
__global__ void gated_rms_norm_kernel(GatedRmsNormArgs args) {
  const std::int64_t token = blockIdx.x;
  const std::int64_t channels = args.x.extent[1];
  const std::int64_t step = static_cast<std::int64_t>(blockDim.x) * N;

  float sum_of_squares = 0.0F;
  for (std::int64_t c = threadIdx.x * N; c < channels; c += step) {
    float value[N];
    load_gated(args, token, c, value);
#pragma unroll
    for (int k = 0; k < N; ++k) sum_of_squares += value[k] * value[k];
  }
  sum_of_squares = block_sum(sum_of_squares);
  const float scale = 1.0F / sqrtf(sum_of_squares / static_cast<float>(channels) + args.epsilon);

  for (std::int64_t c = threadIdx.x * N; c < channels; c += step) {
    float value[N], weight[N];
    load_gated(args, token, c, value);
    load_elements(args.weight.at(c), args.weight.dtype, weight);
#pragma unroll
    for (int k = 0; k < N; ++k) value[k] *= scale * weight[k];
    store_elements(args.y.at(token, c), args.y.dtype, value);
  }
}

}  // namespace

void gated_rms_norm(const GatedRmsNormArgs& args, CUstream_st* stream) {
  const auto tokens = static_cast<unsigned>(args.x.extent[0]);
  if (tokens == 0 || args.x.extent[1] == 0) return;
  const bool vectors = allows_vectors<8>(args.x) && allows_vectors<8>(args.z) &&
                       allows_vectors<8>(args.weight) && allows_vectors<8>(args.y);
  const unsigned threads = threads_per_row(args.x.extent[1], vectors ? 8 : 1);
  if (vectors) {
    gated_rms_norm_kernel<8><<<tokens, threads, 0, stream>>>(args);
  } else {
    gated_rms_norm_kernel<1><<<tokens, threads, 0, stream>>>(args);
  }
  check_cuda(cudaGetLastError(), "gated_rms_norm launch");
}

}  // namespace chunkstate::cuda
