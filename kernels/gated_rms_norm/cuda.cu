// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/launch.cuh"
#include "kernels/base/row_norm.cuh"
#include "kernels/gated_rms_norm/gated_rms_norm.hpp"

namespace chunkstate::cuda {
namespace {

template <int N, Storage storage>
struct GatedInput {
  struct Stored {
    StoredElements<N, storage> x, z;
  };

  const std::byte *x, *z;
  DType x_dtype, z_dtype;

  __device__ __forceinline__ void load(int channel, Stored& stored) const {
    stored.x.load(x, channel, x_dtype);
    stored.z.load(z, channel, z_dtype);
  }
  // x silu(z)
  __device__ __forceinline__ static void value(const Stored& stored, float (&x)[N]) {
    float z[N];
    stored.x.unpack(x);
    stored.z.unpack(z);
#pragma unroll
    for (int k = 0; k < N; ++k) x[k] *= silu(z[k]);
  }
};

// One block per token and group. `args` has all channels of weight and y, one group's of x.
template <int N, Storage storage>
__global__ void __launch_bounds__(row_norm::max_threads)
    gated_rms_norm_kernel(GatedRmsNormArgs args) {
  overlap_kernels();
  const auto groups = static_cast<unsigned>(args.groups);
  const std::int64_t token = blockIdx.x / groups;
  const std::int64_t begin = blockIdx.x % groups * args.x.extent[1];
  const GatedInput<N, storage> input{args.x.at(token, begin), args.z.at(token, begin), args.x.dtype,
                                     args.z.dtype};
  args.weight.data = args.weight.at(begin);
  args.y.data = args.y.at(0, begin);
  row_norm::normalize<N, storage>(args, token, input, args.squares.data, args.squares_channels);
}

// One block per token.
template <int N, Storage storage>
__global__ void __launch_bounds__(512) gated_squares_kernel(GatedRmsNormArgs args) {
  overlap_kernels();
  const std::int64_t token = blockIdx.x;
  const std::int64_t channels = args.x.extent[1];
  float sum_of_squares = 0.0F;
  for (std::int64_t c = threadIdx.x * N; c < channels; c += blockDim.x * N) {
    float x[N], z[N];
    load_elements(args.x.at(token, c), type_of<storage>(args.x.dtype), x);
    load_elements(args.z.at(token, c), type_of<storage>(args.z.dtype), z);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      x[k] *= silu(z[k]);
      sum_of_squares += x[k] * x[k];
    }
  }
  sum_of_squares = block_sum(sum_of_squares);
  if (threadIdx.x == 0) args.squares(token) = sum_of_squares;
}

}  // namespace

void gated_squares(const GatedRmsNormArgs& args, CUstream_st* stream) {
  const auto [tokens, channels] = args.x.extent;
  if (tokens == 0) return;
  const bool vectors = allows_vectors<8>(args.x) && allows_vectors<8>(args.z);
  with_storage<8>(vectors, storage_of(args.x, args.z), [&]<int N, Storage storage>() {
    launch_overlapping("gated_squares launch", gated_squares_kernel<N, storage>,
                       static_cast<unsigned>(args.x.extent[0]),
                       threads_per_row(args.x.extent[1], N), stream, args);
  });
}

void gated_rms_norm(const GatedRmsNormArgs& args, CUstream_st* stream) {
  const auto [tokens, channels] = args.x.extent;
  if (tokens == 0 || channels == 0) return;
  const std::int64_t width = channels / args.groups;
  const bool vectors = width % 8 == 0 && allows_vectors<8>(args.x) && allows_vectors<8>(args.z) &&
                       allows_vectors<8>(args.weight) && allows_vectors<8>(args.y);
  GatedRmsNormArgs of_group = args;
  of_group.x.extent[1] = width;
  with_storage<8>(vectors, storage_of(args.x, args.z, args.weight, args.y),
                  [&]<int N, Storage storage>() {
                    launch_overlapping("gated_rms_norm launch", gated_rms_norm_kernel<N, storage>,
                                       static_cast<unsigned>(args.x.extent[0] * args.groups),
                                       row_norm::threads(width, N), stream, of_group);
                  });
}

}  // namespace chunkstate::cuda
