// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/cuda_check.cuh"
#include "kernels/base/elements.cuh"
#include "kernels/rms_norm/rms_norm.hpp"

namespace chunkstate::cuda {
namespace {

// One block per token. A row is read twice; the second read hits L1 (8 KiB at Bamba-9B in bf16).
template <int N>
__global__ void rms_norm_kernel(RmsNormArgs args) {
  const std::int64_t token = blockIdx.x;
  const std::int64_t channels = args.x.extent[1];
  const std::int64_t step = static_cast<std::int64_t>(blockDim.x) * N;

  float sum_of_squares = 0.0F;
  for (std::int64_t c = threadIdx.x * N; c < channels; c += step) {
    float x[N];
    load_elements(args.x.at(token, c), args.x.dtype, x);
#pragma unroll
    for (int k = 0; k < N; ++k) sum_of_squares += x[k] * x[k];
  }
  sum_of_squares = block_sum(sum_of_squares);
  const float scale = 1.0F / sqrtf(sum_of_squares / static_cast<float>(channels) + args.epsilon);

  for (std::int64_t c = threadIdx.x * N; c < channels; c += step) {
    float x[N], weight[N];
    load_elements(args.x.at(token, c), args.x.dtype, x);
    load_elements(args.weight.at(c), args.weight.dtype, weight);
#pragma unroll
    for (int k = 0; k < N; ++k) x[k] *= scale * weight[k];
    store_elements(args.y.at(token, c), args.y.dtype, x);
  }
}

}  // namespace

void rms_norm(const RmsNormArgs& args, CUstream_st* stream) {
  const auto tokens = static_cast<unsigned>(args.x.extent[0]);
  if (tokens == 0 || args.x.extent[1] == 0) return;
  const bool vectors =
      allows_vectors<8>(args.x) && allows_vectors<8>(args.weight) && allows_vectors<8>(args.y);
  const unsigned threads = threads_per_row(args.x.extent[1], vectors ? 8 : 1);
  if (vectors) {
    rms_norm_kernel<8><<<tokens, threads, 0, stream>>>(args);
  } else {
    rms_norm_kernel<1><<<tokens, threads, 0, stream>>>(args);
  }
  check_cuda(cudaGetLastError(), "rms_norm launch");
}

}  // namespace chunkstate::cuda
