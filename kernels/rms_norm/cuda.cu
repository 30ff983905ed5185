// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/launch.cuh"
#include "kernels/base/row_norm.cuh"
#include "kernels/rms_norm/rms_norm.hpp"

namespace chunkstate::cuda {
namespace {

template <int N, Storage storage>
struct RmsNormInput {
  using Stored = StoredElements<N, storage>;

  const std::byte* x;
  DType dtype;

  __device__ __forceinline__ void load(int channel, Stored& stored) const {
    stored.load(x, channel, dtype);
  }
  __device__ __forceinline__ static void value(const Stored& stored, float (&x)[N]) {
    stored.unpack(x);
  }
};

// One block per token.
template <int N, Storage storage>
__global__ void __launch_bounds__(row_norm::max_threads) rms_norm_kernel(RmsNormArgs args) {
  overlap_kernels();
  const std::int64_t token = blockIdx.x;
  row_norm::normalize<N, storage>(args, token,
                                  RmsNormInput<N, storage>{args.x.at(token, 0), args.x.dtype});
}

}  // namespace

void rms_norm(const RmsNormArgs& args, CUstream_st* stream) {
  const auto [tokens, channels] = args.x.extent;
  if (tokens == 0 || channels == 0) return;
  const bool vectors =
      allows_vectors<8>(args.x) && allows_vectors<8>(args.weight) && allows_vectors<8>(args.y);
  with_storage<8>(vectors, storage_of(args.x, args.weight, args.y), [&]<int N, Storage storage>() {
    launch_overlapping("rms_norm launch", rms_norm_kernel<N, storage>,
                       static_cast<unsigned>(args.x.extent[0]),
                       row_norm::threads(args.x.extent[1], N), stream, args);
  });
}

}  // namespace chunkstate::cuda
