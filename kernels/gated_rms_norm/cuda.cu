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

  const GatedRmsNormArgs& args;
  std::int64_t token;

  __device__ __forceinline__ void load(std::int64_t channel, Stored& stored) const {
    stored.x.load(args.x.at(token, channel), args.x.dtype);
    stored.z.load(args.z.at(token, channel), args.z.dtype);
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

// One block per token.
template <int N, Storage storage>
__global__ void __launch_bounds__(row_norm::max_threads)
    gated_rms_norm_kernel(GatedRmsNormArgs args) {
  overlap_kernels();
  row_norm::normalize<N, storage>(args, blockIdx.x, GatedInput<N, storage>{args, blockIdx.x});
}

}  // namespace

void gated_rms_norm(const GatedRmsNormArgs& args, CUstream_st* stream) {
  const auto [tokens, channels] = args.x.extent;
  if (tokens == 0 || channels == 0) return;
  const bool vectors = allows_vectors<8>(args.x) && allows_vectors<8>(args.z) &&
                       allows_vectors<8>(args.weight) && allows_vectors<8>(args.y);
  with_storage<8>(vectors, storage_of(args.x, args.z, args.weight, args.y),
                  [&]<int N, Storage storage>() {
                    launch_overlapping("gated_rms_norm launch", gated_rms_norm_kernel<N, storage>,
                                       static_cast<unsigned>(args.x.extent[0]),
                                       row_norm::threads(args.x.extent[1], N), stream, args);
                  });
}

}  // namespace chunkstate::cuda
