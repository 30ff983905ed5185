// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/elements.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/silu_mul/silu_mul.hpp"

namespace chunkstate::cuda {
namespace {

template <int N, Storage storage>
__global__ void __launch_bounds__(row_threads) silu_mul_kernel(SiluMulArgs args) {
  overlap_kernels();
  const auto [token, c] = row_position<N>(args.y.extent[1]);
  if (c >= args.y.extent[1]) return;
  float gate[N], up[N];
  load_elements(args.gate.at(token, c), type_of<storage>(args.gate.dtype), gate);
  load_elements(args.up.at(token, c), type_of<storage>(args.up.dtype), up);
#pragma unroll
  for (int k = 0; k < N; ++k) gate[k] = silu(gate[k]) * up[k];
  store_elements(args.y.at(token, c), type_of<storage>(args.y.dtype), gate);
}

}  // namespace

void silu_mul(const SiluMulArgs& args, CUstream_st* stream) {
  const auto [tokens, channels] = args.y.extent;
  if (tokens == 0 || channels == 0) return;
  const bool vectors =
      allows_vectors<8>(args.gate) && allows_vectors<8>(args.up) && allows_vectors<8>(args.y);
  with_storage<8>(vectors, storage_of(args.y, args.gate, args.up), [&]<int N, Storage storage>() {
    launch_overlapping("silu_mul launch", silu_mul_kernel<N, storage>,
                       row_blocks(args.y.extent[0], args.y.extent[1], N), row_threads, stream,
                       args);
  });
}

}  // namespace chunkstate::cuda
