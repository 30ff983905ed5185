// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/base/cuda_check.cuh"
#include "kernels/base/elements.cuh"
#include "kernels/base/memory.hpp"
#include "kernels/base/tile_product.cuh"
#include "kernels/base/workspace.cuh"
#include "kernels/ssd/scan_common.cuh"
#include "kernels/ssd/variants_cuda.hpp"

// The baseline: one kernel per stage, every intermediate in memory. With Lambda_i the sum of delta
// A from the chunk's start to token i:
//
//   1  delta, Lambda                                                       [tokens, heads]
//   2  G_ij = C_i B_j                                                      [chunks, groups, Q, Q]
//   3  U = sum_j exp(Lambda_last - Lambda_j) delta_j x_j B_j^T             [chunks, heads, P, N]
//   4  S_c+1 = exp(Lambda_last) S_c + U_c, in place of U
//   5  y_i = exp(Lambda_i) S C_i + sum_j<=i G_ij exp(Lambda_i - Lambda_j) delta_j x_j + D x_i
namespace chunkstate::cuda {
namespace {

using tile_product::Contiguous;
using tile_product::operand;
using tile_product::patch;
using tile_product::tile;

// Exact for every blocking, so the chunk size is bounded to what the intermediates make sensible.
constexpr std::int64_t min_block = 16;
constexpr std::int64_t max_block = 1024;
// A long call is computed in segments whose intermediates stay below this.
constexpr std::int64_t segment_bytes = std::int64_t{1} << 29;

struct Stages {
  SsdArgs args;
  std::int64_t block;  // tokens of a chunk
  std::int64_t chunks;
  double* lambda;   // [tokens, heads]; double, because differences of long sums are taken
  float* delta;     // [tokens, heads]
  float* products;  // [chunks, groups, block, block]
  float* states;    // [chunks, heads, head_dim, state_dim]

  __device__ std::int64_t heads() const { return args.x.extent[1]; }
  __device__ std::int64_t head_dim() const { return args.x.extent[2]; }
  __device__ std::int64_t groups() const { return args.B.extent[1]; }
  __device__ std::int64_t state_dim() const { return args.B.extent[2]; }
  __device__ std::int64_t length(std::int64_t chunk) const {
    return min(block, args.x.extent[0] - chunk * block);
  }
  __device__ double lambda_at(std::int64_t token, std::int64_t head) const {
    return lambda[token * heads() + head];
  }
};

// One thread per chunk and head.
__global__ void __launch_bounds__(row_threads) decay_kernel(Stages s) {
  const auto [chunk, head] = row_position<1>(s.heads());
  if (head >= s.heads()) return;
  double sum = 0.0;
  for (std::int64_t t = chunk * s.block; t < chunk * s.block + s.length(chunk); ++t) {
    const float delta = step_size(s.args, t, head);
    sum += static_cast<double>(delta * s.args.A(head));
    s.delta[t * s.heads() + head] = delta;
    s.lambda[t * s.heads() + head] = sum;
  }
}

__device__ float element_or_zero(const ConstAnyView<3>& view, std::int64_t t, std::int64_t second,
                                 std::int64_t third, bool inside) {
  return inside ? load_element(view.at(t, second, third), view.dtype) : 0.0F;
}

// Tiles of G, one block each.
__global__ void __launch_bounds__(tile_product::threads) product_kernel(Stages s) {
  const auto tiles = static_cast<unsigned>(ceil_div(s.block, tile));
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x / tiles % tiles) * tile;
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x % tiles) * tile;
  const std::int64_t group = blockIdx.x / tiles / tiles % s.groups();
  const std::int64_t chunk = blockIdx.x / tiles / tiles / s.groups();
  const std::int64_t first = chunk * s.block;
  const std::int64_t length = s.length(chunk);
  if (column > row || row >= length) return;

  const auto rows_of = [&](const ConstAnyView<3>& view) {
    return operand<1, Contiguous::k>(
        [&, first, length](std::int64_t i, std::int64_t n, float(&value)[1]) {
          value[0] = element_or_zero(view, first + i, group, n, i < length && n < s.state_dim());
        });
  };
  float sum[patch][patch] = {};
  tile_product::accumulate(sum, s.state_dim(), row, rows_of(s.args.C), column, rows_of(s.args.B));
  float* const out = s.products + (chunk * s.groups() + group) * s.block * s.block;
  tile_product::for_each(sum, [&](int i, int j, float value) {
    if (row + i < length && column + j < length) out[(row + i) * s.block + column + j] = value;
  });
}

// Tiles of U, one block each.
__global__ void __launch_bounds__(tile_product::threads) state_kernel(Stages s) {
  const auto p_tiles = static_cast<unsigned>(ceil_div(s.head_dim(), tile));
  const auto n_tiles = static_cast<unsigned>(ceil_div(s.state_dim(), tile));
  const std::int64_t n_first = static_cast<std::int64_t>(blockIdx.x % n_tiles) * tile;
  const std::int64_t p_first = static_cast<std::int64_t>(blockIdx.x / n_tiles % p_tiles) * tile;
  const std::int64_t head = blockIdx.x / n_tiles / p_tiles % s.heads();
  const std::int64_t chunk = blockIdx.x / n_tiles / p_tiles / s.heads();
  const std::int64_t group = head / (s.heads() / s.groups());
  const std::int64_t first = chunk * s.block;
  const std::int64_t length = s.length(chunk);
  const double last = s.lambda_at(first + length - 1, head);

  const auto x = operand<1, Contiguous::row>([&](std::int64_t p, std::int64_t j, float(&value)[1]) {
    value[0] = element_or_zero(s.args.x, first + j, head, p, p < s.head_dim() && j < length);
    if (j < length) {
      value[0] *= expf(static_cast<float>(last - s.lambda_at(first + j, head))) *
                  s.delta[(first + j) * s.heads() + head];
    }
  });
  const auto B = operand<1, Contiguous::row>([&](std::int64_t n, std::int64_t j, float(&value)[1]) {
    value[0] = element_or_zero(s.args.B, first + j, group, n, n < s.state_dim() && j < length);
  });
  float sum[patch][patch] = {};
  tile_product::accumulate(sum, length, p_first, x, n_first, B);
  float* const out = s.states + (chunk * s.heads() + head) * s.head_dim() * s.state_dim();
  tile_product::for_each(sum, [&](int p, int n, float value) {
    if (p_first + p < s.head_dim() && n_first + n < s.state_dim()) {
      out[(p_first + p) * s.state_dim() + n_first + n] = value;
    }
  });
}

// One thread per element of the state: what a chunk adds becomes the state it starts from. `carry`
// [heads, head_dim, state_dim] enters with the state before the segment and leaves with the one
// after.
__global__ void __launch_bounds__(row_threads) passing_kernel(Stages s, float* carry) {
  const std::int64_t elements = s.heads() * s.head_dim() * s.state_dim();
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * row_threads + threadIdx.x;
  if (index >= elements) return;
  const std::int64_t head = index / s.state_dim() / s.head_dim();
  float state = carry[index];
  for (std::int64_t chunk = 0; chunk < s.chunks; ++chunk) {
    const std::int64_t last = chunk * s.block + s.length(chunk) - 1;
    const float added = s.states[chunk * elements + index];
    s.states[chunk * elements + index] = state;
    state = expf(static_cast<float>(s.lambda_at(last, head))) * state + added;
  }
  carry[index] = state;
}

// Tiles of y (tokens x head_dim of a chunk and head), one block each.
__global__ void __launch_bounds__(tile_product::threads) output_kernel(Stages s) {
  const auto p_tiles = static_cast<unsigned>(ceil_div(s.head_dim(), tile));
  const auto i_tiles = static_cast<unsigned>(ceil_div(s.block, tile));
  const std::int64_t p_first = static_cast<std::int64_t>(blockIdx.x % p_tiles) * tile;
  const std::int64_t i_first = static_cast<std::int64_t>(blockIdx.x / p_tiles % i_tiles) * tile;
  const std::int64_t head = blockIdx.x / p_tiles / i_tiles % s.heads();
  const std::int64_t chunk = blockIdx.x / p_tiles / i_tiles / s.heads();
  const std::int64_t group = head / (s.heads() / s.groups());
  const std::int64_t first = chunk * s.block;
  const std::int64_t length = s.length(chunk);
  if (i_first >= length) return;
  const float* const state = s.states + (chunk * s.heads() + head) * s.head_dim() * s.state_dim();
  const float* const products = s.products + (chunk * s.groups() + group) * s.block * s.block;

  float sum[patch][patch] = {};
  {
    const auto C = operand<1, Contiguous::k>([&](std::int64_t i, std::int64_t n, float(&value)[1]) {
      value[0] = element_or_zero(s.args.C, first + i, group, n, i < length && n < s.state_dim());
    });
    const auto S = operand<1, Contiguous::k>([&](std::int64_t p, std::int64_t n, float(&value)[1]) {
      value[0] = p < s.head_dim() && n < s.state_dim() ? state[p * s.state_dim() + n] : 0.0F;
    });
    tile_product::accumulate(sum, s.state_dim(), i_first, C, p_first, S);
  }
#pragma unroll
  for (int i = 0; i < patch; ++i) {
    const std::int64_t row = i_first + tile_product::patch_row() + i;
    const float decay =
        row < length ? expf(static_cast<float>(s.lambda_at(first + row, head))) : 0.0F;
#pragma unroll
    for (int j = 0; j < patch; ++j) sum[i][j] *= decay;
  }
  {
    const auto M = operand<1, Contiguous::k>([&](std::int64_t i, std::int64_t j, float(&value)[1]) {
      value[0] = 0.0F;
      if (j <= i && i < length) {
        const double gap = s.lambda_at(first + i, head) - s.lambda_at(first + j, head);
        value[0] = products[i * s.block + j] * expf(fminf(static_cast<float>(gap), 0.0F)) *
                   s.delta[(first + j) * s.heads() + head];
      }
    });
    const auto x =
        operand<1, Contiguous::row>([&](std::int64_t p, std::int64_t j, float(&value)[1]) {
          value[0] = element_or_zero(s.args.x, first + j, head, p, p < s.head_dim() && j < length);
        });
    tile_product::accumulate(sum, min(i_first + tile, length), i_first, M, p_first, x);
  }
  tile_product::for_each(sum, [&](int i, int p, float value) {
    if (i_first + i >= length || p_first + p >= s.head_dim()) return;
    const std::int64_t t = first + i_first + i;
    value += s.args.D(head) * load_element(s.args.x.at(t, head, p_first + p), s.args.x.dtype);
    store_element(s.args.y.at(t, head, p_first + p), s.args.y.dtype, value);
  });
}

template <class... Extents>
unsigned blocks_of(Extents... extents) {
  return static_cast<unsigned>((std::int64_t{1} * ... * extents));
}

void run_segment(Stages s, float* carry, CUstream_st* stream) {
  const auto [tokens, heads, head_dim] = s.args.x.extent;
  const std::int64_t state_dim = s.args.B.extent[2];
  const std::int64_t block_tiles = ceil_div(s.block, tile);
  const std::int64_t p_tiles = ceil_div(head_dim, tile);
  constexpr int threads = tile_product::threads;

  decay_kernel<<<row_blocks(s.chunks, heads, 1), row_threads, 0, stream>>>(s);
  check_cuda(cudaGetLastError(), "ssd_scan default: decay launch");
  product_kernel<<<blocks_of(s.chunks, s.args.B.extent[1], block_tiles, block_tiles), threads, 0,
                   stream>>>(s);
  check_cuda(cudaGetLastError(), "ssd_scan default: product launch");
  state_kernel<<<blocks_of(s.chunks, heads, p_tiles, ceil_div(state_dim, tile)), threads, 0,
                 stream>>>(s);
  check_cuda(cudaGetLastError(), "ssd_scan default: state launch");
  passing_kernel<<<row_blocks(1, heads * head_dim * state_dim, 1), row_threads, 0, stream>>>(s,
                                                                                             carry);
  check_cuda(cudaGetLastError(), "ssd_scan default: passing launch");
  output_kernel<<<blocks_of(s.chunks, heads, block_tiles, p_tiles), threads, 0, stream>>>(s);
  check_cuda(cudaGetLastError(), "ssd_scan default: output launch");
}

// How a call is cut: so many chunks of `block` tokens at once, with the state that they start from.
struct Segments {
  std::int64_t block, chunks, bytes;
  explicit Segments(const SsdArgs& args) {
    const auto [tokens, heads, head_dim] = args.x.extent;
    const std::int64_t groups = args.B.extent[1];
    const std::int64_t state_bytes = heads * head_dim * args.B.extent[2] * 4;
    block = std::clamp(args.chunk_size, min_block, max_block);
    const std::int64_t chunk_bytes = block * heads * 12 + groups * block * block * 4 + state_bytes;
    chunks =
        std::min(ceil_div(tokens, block), std::max<std::int64_t>(1, segment_bytes / chunk_bytes));
    bytes = chunks * chunk_bytes + state_bytes;
  }
};

}  // namespace

std::int64_t ssd_default_scratch(const SsdArgs& args) { return scratch_size(Segments(args).bytes); }

void ssd_default(const SsdArgs& args, CUstream_st* stream) {
  const auto [tokens, heads, head_dim] = args.x.extent;
  const std::int64_t groups = args.B.extent[1];
  const std::int64_t state_dim = args.B.extent[2];
  const std::int64_t elements = heads * head_dim * state_dim;
  if (tokens == 0 || elements == 0) return;

  const auto [block, chunks, bytes] = Segments(args);
  const Workspace workspace(bytes, stream);
  Stages stages{};
  stages.block = block;
  stages.lambda = workspace.as<double>();
  stages.delta = reinterpret_cast<float*>(stages.lambda + chunks * block * heads);
  stages.products = stages.delta + chunks * block * heads;
  stages.states = stages.products + chunks * groups * block * block;
  float* const carry = stages.states + chunks * elements;

  load_state(args.state, elements, carry, stream);
  for (std::int64_t begin = 0; begin < tokens; begin += chunks * block) {
    const std::int64_t end = std::min(begin + chunks * block, tokens);
    stages.args = slice_tokens(args, begin, end);
    stages.chunks = ceil_div(end - begin, block);
    run_segment(stages, carry, stream);
  }
  store_state(args.state, elements, carry, stream);
}

}  // namespace chunkstate::cuda
