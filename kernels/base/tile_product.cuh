// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/base/elements.cuh"

namespace chunkstate {

/// A 64 x 64 tile of sum over k of a(row, k) b(column, k), in fp32 multiply-adds, by a block of 256
/// threads: thread i holds a 4 x 4 patch. For operands that no library takes: mixed storage types,
/// or factors computed while loading.
namespace tile_product {

inline constexpr int tile = 64;
inline constexpr int depth = 16;
inline constexpr int patch = 4;
inline constexpr int threads = 256;

__device__ __forceinline__ int patch_row() {
  return static_cast<int>(threadIdx.x) / (tile / patch) * patch;
}
__device__ __forceinline__ int patch_column() {
  return static_cast<int>(threadIdx.x) % (tile / patch) * patch;
}

/// Which index neighbouring threads should walk along when loading.
enum class Contiguous { k, row };

/// An operand: `load(row, k, value)` gives N consecutive k of a row, zeros outside the matrix.
template <int N, Contiguous along, class Load>
struct Operand {
  Load load;

  __device__ __forceinline__ void to_shared(std::int64_t row, std::int64_t k,
                                            float (*shared)[tile + 4]) const {
    static_assert(N == 1 || along == Contiguous::k);
#pragma unroll
    for (int l = 0; l < tile * depth / threads / N; ++l) {
      const int index = (l * threads + static_cast<int>(threadIdx.x)) * N;
      const int r = along == Contiguous::k ? index / depth : index % tile;
      const int d = along == Contiguous::k ? index % depth : index / tile;
      float value[N];
      load(row + r, k + d, value);
#pragma unroll
      for (int e = 0; e < N; ++e) shared[d + e][r] = value[e];
    }
  }
};
template <int N, Contiguous along, class Load>
__device__ Operand<N, along, Load> operand(Load load) {
  return {load};
}

/// sum += the product over k in [0, extent). All threads of the block take part.
template <class A, class B>
__device__ __forceinline__ void accumulate(float (&sum)[patch][patch], std::int64_t extent,
                                           std::int64_t a_row, const A& a, std::int64_t b_row,
                                           const B& b) {
  __shared__ float a_tile[depth][tile + 4];
  __shared__ float b_tile[depth][tile + 4];
  for (std::int64_t k = 0; k < extent; k += depth) {
    a.to_shared(a_row, k, a_tile);
    b.to_shared(b_row, k, b_tile);
    __syncthreads();
#pragma unroll
    for (int d = 0; d < depth; ++d) {
      const auto a4 = *reinterpret_cast<const float4*>(&a_tile[d][patch_row()]);
      const auto b4 = *reinterpret_cast<const float4*>(&b_tile[d][patch_column()]);
      const float a_value[patch] = {a4.x, a4.y, a4.z, a4.w};
      const float b_value[patch] = {b4.x, b4.y, b4.z, b4.w};
#pragma unroll
      for (int i = 0; i < patch; ++i) {
#pragma unroll
        for (int j = 0; j < patch; ++j) sum[i][j] += a_value[i] * b_value[j];
      }
    }
    __syncthreads();
  }
}

/// Calls `store(row, column, sum)` for this thread's patch.
template <class Store>
__device__ __forceinline__ void for_each(const float (&sum)[patch][patch], Store store) {
#pragma unroll
  for (int i = 0; i < patch; ++i) {
#pragma unroll
    for (int j = 0; j < patch; ++j) store(patch_row() + i, patch_column() + j, sum[i][j]);
  }
}

}  // namespace tile_product
}  // namespace chunkstate
