// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/elements.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/rms_norm/rms_norm.hpp"

namespace chunkstate::cuda {
namespace {

constexpr int kept = 2;  // vectors a thread keeps between the passes: rows of up to 8192 channels

// One block per token. A thread loads, and with `add` stores, the same elements in both passes.
template <int N, Storage storage>
__global__ void __launch_bounds__(512) rms_norm_kernel(RmsNormArgs args) {
  overlap_kernels();
  const std::int64_t token = blockIdx.x;
  const std::int64_t channels = args.x.extent[1];
  const std::int64_t first = threadIdx.x * N, step = static_cast<std::int64_t>(blockDim.x) * N;
  const auto load = [&](std::int64_t c, float(&x)[N]) {
    load_elements(args.x.at(token, c), type_of<storage>(args.x.dtype), x);
    if (args.add.data == nullptr) return;
    float added[N];
    load_elements(args.add.at(token, c), type_of<storage>(args.add.dtype), added);
#pragma unroll
    for (int k = 0; k < N; ++k) x[k] = rounded(type_of<storage>(args.sum.dtype), x[k] + added[k]);
  };
  const auto store_sum = [&](std::int64_t c, const float(&x)[N]) {
    if (args.add.data == nullptr) return;
    store_elements(args.sum.at(token, c), type_of<storage>(args.sum.dtype), x);
  };

  float x[kept][N] = {};
  float sum_of_squares = 0.0F;
#pragma unroll
  for (int i = 0; i < kept; ++i) {
    if (first + i * step < channels) load(first + i * step, x[i]);
  }
#pragma unroll
  for (int i = 0; i < kept; ++i) {
#pragma unroll
    for (int k = 0; k < N; ++k) sum_of_squares += x[i][k] * x[i][k];
  }
  for (std::int64_t c = first + kept * step; c < channels; c += step) {
    float more[N];
    load(c, more);
#pragma unroll
    for (int k = 0; k < N; ++k) sum_of_squares += more[k] * more[k];
  }
  sum_of_squares = block_sum(sum_of_squares);
  const float scale = 1.0F / sqrtf(sum_of_squares / static_cast<float>(channels) + args.epsilon);

  const auto store = [&](std::int64_t c, float(&value)[N]) {
    store_sum(c, value);
    float weight[N];
    load_elements(args.weight.at(c), type_of<storage>(args.weight.dtype), weight);
#pragma unroll
    for (int k = 0; k < N; ++k) value[k] *= scale * weight[k];
    store_elements(args.y.at(token, c), type_of<storage>(args.y.dtype), value);
  };
#pragma unroll
  for (int i = 0; i < kept; ++i) {
    if (first + i * step < channels) store(first + i * step, x[i]);
  }
  for (std::int64_t c = first + kept * step; c < channels; c += step) {
    float more[N];
    load(c, more);
    store(c, more);
  }
}

}  // namespace

void rms_norm(const RmsNormArgs& args, CUstream_st* stream) {
  const auto [tokens, channels] = args.x.extent;
  if (tokens == 0 || channels == 0) return;
  const bool vectors = allows_vectors<8>(args.x) && allows_vectors<8>(args.weight) &&
                       allows_vectors<8>(args.y) && allows_vectors<8>(args.add) &&
                       allows_vectors<8>(args.sum);
  const Storage storage_type = storage_of(args.x, args.weight, args.y, args.add, args.sum);
  with_storage<8>(vectors, storage_type, [&]<int N, Storage storage>() {
    launch_overlapping("rms_norm launch", rms_norm_kernel<N, storage>,
                       static_cast<unsigned>(args.x.extent[0]),
                       threads_per_row(args.x.extent[1], N), stream, args);
  });
}

}  // namespace chunkstate::cuda
