// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/elements.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/embedding/embedding.hpp"

namespace chunkstate::cuda {
namespace {

template <int N>
__global__ void __launch_bounds__(row_threads) embedding_kernel(EmbeddingArgs args) {
  overlap_kernels();
  const auto [token, c] = row_position<N>(args.y.extent[1]);
  if (c >= args.y.extent[1]) return;
  float value[N];
  load_elements(args.table.at(args.tokens(token), c), args.table.dtype, value);
#pragma unroll
  for (int e = 0; e < N; ++e) value[e] *= args.scale;
  store_elements(args.y.at(token, c), args.y.dtype, value);
}

}  // namespace

void embedding(const EmbeddingArgs& args, CUstream_st* stream) {
  const auto [tokens, channels] = args.y.extent;
  if (tokens == 0 || channels == 0) return;
  if (allows_vectors<8>(args.table) && allows_vectors<8>(args.y)) {
    launch_overlapping("embedding launch", embedding_kernel<8>, row_blocks(tokens, channels, 8),
                       row_threads, stream, args);
  } else {
    launch_overlapping("embedding launch", embedding_kernel<1>, row_blocks(tokens, channels, 1),
                       row_threads, stream, args);
  }
}

}  // namespace chunkstate::cuda
