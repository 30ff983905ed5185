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

// x + add, which becomes `sum` where the normalised row is stored.
template <int N, Storage storage>
struct SumInput {
  struct Stored {
    StoredElements<N, storage> x, add;
  };

  const RmsNormArgs& args;
  std::int64_t token;

  __device__ __forceinline__ void load(int channel, Stored& stored) const {
    stored.x.load(args.x.at(token, 0), channel, args.x.dtype);
    stored.add.load(args.add.at(token, 0), channel, args.add.dtype);
  }
  __device__ __forceinline__ void value(const Stored& stored, float (&x)[N]) const {
    float added[N];
    stored.x.unpack(x);
    stored.add.unpack(added);
#pragma unroll
    for (int k = 0; k < N; ++k) x[k] = rounded(type_of<storage>(args.sum.dtype), x[k] + added[k]);
  }
  __device__ __forceinline__ void keep(int channel, const float (&x)[N]) const {
    store_elements(args.sum.at(token, channel), type_of<storage>(args.sum.dtype), x);
  }
};

// One block per token. A thread loads and stores the same elements.
template <int N, Storage storage>
__global__ void __launch_bounds__(row_norm::max_threads) rms_norm_kernel(RmsNormArgs args) {
  overlap_kernels();
  const std::int64_t token = blockIdx.x;
  if (args.add.data == nullptr) {
    row_norm::normalize<N, storage>(args, token,
                                    RmsNormInput<N, storage>{args.x.at(token, 0), args.x.dtype});
  } else {
    row_norm::normalize<N, storage>(args, token, SumInput<N, storage>{args, token});
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
                       row_norm::threads(args.x.extent[1], N), stream, args);
  });
}

}  // namespace chunkstate::cuda
