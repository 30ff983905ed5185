// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/cuda_check.cuh"
#include "kernels/base/elements.cuh"
#include "kernels/base/tile_product.cuh"
#include "kernels/linear/linear.hpp"
#include "kernels/linear/matmul_library.hpp"
#include "kernels/linear/matrix_vector.cuh"

namespace chunkstate::cuda {
namespace {

using tile_product::Contiguous;
using tile_product::operand;
using tile_product::tile;

template <int N>
__device__ auto rows_of(const ConstAnyView<2>& matrix) {
  return operand<N, Contiguous::k>([&matrix](std::int64_t row, std::int64_t k, float(&value)[N]) {
    if (row < matrix.extent[0] && k < matrix.extent[1]) {
      load_elements(matrix.at(row, k), matrix.dtype, value);
    } else {
#pragma unroll
      for (int e = 0; e < N; ++e) value[e] = 0.0F;
    }
  });
}

// Any combination of storage types, any stride. Serves what the library does not take, first of all
// fp32 activations on 16-bit weights.
template <int N>
__global__ void __launch_bounds__(tile_product::threads) linear_kernel(LinearArgs args) {
  const auto out_tiles = static_cast<unsigned>(ceil_div(args.weight.extent[0], tile));
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.x / out_tiles) * tile;
  const std::int64_t out = static_cast<std::int64_t>(blockIdx.x % out_tiles) * tile;

  float sum[tile_product::patch][tile_product::patch] = {};
  tile_product::accumulate(sum, args.x.extent[1], token, rows_of<N>(args.x), out,
                           rows_of<N>(args.weight));
  tile_product::for_each(sum, [&](int row, int column, float value) {
    const std::int64_t t = token + row;
    const std::int64_t o = out + column;
    if (t >= args.x.extent[0] || o >= args.weight.extent[0]) return;
    if (args.bias.data != nullptr) value += load_element(args.bias.at(o), args.bias.dtype);
    value *= args.scale;
    if (args.accumulate) value += load_element(args.y.at(t, o), args.y.dtype);
    store_element(args.y.at(t, o), args.y.dtype, value);
  });
}

}  // namespace

void linear(const LinearArgs& args, CUstream_st* stream, bool autotune) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t out_features = args.weight.extent[0];
  if (tokens == 0 || out_features == 0) return;
  if (matrix_vector(args, stream) || linear_by_library(args, stream, autotune)) return;

  const auto blocks = static_cast<unsigned>(ceil_div(tokens, tile) * ceil_div(out_features, tile));
  if (allows_vectors<4>(args.x) && allows_vectors<4>(args.weight)) {
    linear_kernel<4><<<blocks, tile_product::threads, 0, stream>>>(args);
  } else {
    linear_kernel<1><<<blocks, tile_product::threads, 0, stream>>>(args);
  }
  check_cuda(cudaGetLastError(), "linear launch");
}

}  // namespace chunkstate::cuda
