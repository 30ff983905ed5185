// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/elements.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/gated_rms_norm/gated_rms_norm.hpp"

namespace chunkstate::cuda {
namespace {

constexpr int kept = 2;  // vectors a thread keeps between the passes: rows of up to 8192 channels

// One block per token and group.
template <int N, Storage storage>
__global__ void __launch_bounds__(512) gated_rms_norm_kernel(GatedRmsNormArgs args) {
  overlap_kernels();
  const auto groups = static_cast<unsigned>(args.groups);
  const std::int64_t token = blockIdx.x / groups;
  const std::int64_t channels = args.x.extent[1] / groups;
  const std::int64_t begin = blockIdx.x % groups * channels;
  const std::int64_t first = threadIdx.x * N, step = static_cast<std::int64_t>(blockDim.x) * N;
  const auto load = [&](std::int64_t c, float(&x)[N], float(&z)[N]) {
    load_elements(args.x.at(token, begin + c), type_of<storage>(args.x.dtype), x);
    load_elements(args.z.at(token, begin + c), type_of<storage>(args.z.dtype), z);
  };

  float x[kept][N] = {}, z[kept][N] = {};  // x becomes x silu(z)
  float sum_of_squares = 0.0F;
#pragma unroll
  for (int i = 0; i < kept; ++i) {
    if (first + i * step < channels) load(first + i * step, x[i], z[i]);
  }
#pragma unroll
  for (int i = 0; i < kept; ++i) {
#pragma unroll
    for (int k = 0; k < N; ++k) {
      x[i][k] *= silu(z[i][k]);
      sum_of_squares += x[i][k] * x[i][k];
    }
  }
  for (std::int64_t c = first + kept * step; c < channels; c += step) {
    float more[N], gate[N];
    load(c, more, gate);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      more[k] *= silu(gate[k]);
      sum_of_squares += more[k] * more[k];
    }
  }
  sum_of_squares = block_sum(sum_of_squares);
  const float scale = 1.0F / sqrtf(sum_of_squares / static_cast<float>(channels) + args.epsilon);

  const auto store = [&](std::int64_t c, float(&value)[N]) {
    float weight[N];
    load_elements(args.weight.at(begin + c), type_of<storage>(args.weight.dtype), weight);
#pragma unroll
    for (int k = 0; k < N; ++k) value[k] *= scale * weight[k];
    store_elements(args.y.at(token, begin + c), type_of<storage>(args.y.dtype), value);
  };
#pragma unroll
  for (int i = 0; i < kept; ++i) {
    if (first + i * step < channels) store(first + i * step, x[i]);
  }
  for (std::int64_t c = first + kept * step; c < channels; c += step) {
    float more[N], gate[N];
    load(c, more, gate);
#pragma unroll
    for (int k = 0; k < N; ++k) more[k] *= silu(gate[k]);
    store(c, more);
  }
}

}  // namespace

void gated_rms_norm(const GatedRmsNormArgs& args, CUstream_st* stream) {
  const auto [tokens, channels] = args.x.extent;
  if (tokens == 0 || channels == 0) return;
  const std::int64_t width = channels / args.groups;
  const bool vectors = width % 8 == 0 && allows_vectors<8>(args.x) && allows_vectors<8>(args.z) &&
                       allows_vectors<8>(args.weight) && allows_vectors<8>(args.y);
  with_storage<8>(vectors, storage_of(args.x, args.z, args.weight, args.y),
                  [&]<int N, Storage storage>() {
                    launch_overlapping("gated_rms_norm launch", gated_rms_norm_kernel<N, storage>,
                                       static_cast<unsigned>(args.x.extent[0] * args.groups),
                                       threads_per_row(width, N), stream, args);
                  });
}

}  // namespace chunkstate::cuda
