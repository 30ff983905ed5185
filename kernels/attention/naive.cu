// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include "kernels/attention/naive.cuh"
#include "kernels/base/cuda_check.cuh"
#include "kernels/base/elements.cuh"
#include "kernels/linear/linear.hpp"

namespace chunkstate::cuda {
namespace {

constexpr int threads = 256;
constexpr int turned_tile = 32;  // keys and elements that a block turns through shared memory
constexpr float log2_e = 1.4426950408889634F;

// Rows of scores are padded to whole vectors, with zeros after the softmax.
std::int64_t pitch_of(const AttentionArgs& args) { return ceil_div(args.k.extent[0], 8) * 8; }

/// The largest value of the block, for all its threads.
__device__ float block_max(float value) {
  __shared__ float partial[threads / warp_size];
  value = warp_max(value);
  if (threadIdx.x % warp_size == 0) partial[threadIdx.x / warp_size] = value;
  __syncthreads();
#pragma unroll
  for (const float other : partial) value = fmaxf(value, other);
  return value;
}

// values [kv_heads, head_dim, pitch] = v [keys, kv_heads, head_dim], zero behind the last key.
__global__ void __launch_bounds__(turned_tile * 8)
    turn_kernel(ConstAnyView<3> v, AnyView<3> turned) {
  __shared__ float tile[turned_tile][turned_tile + 1];
  const std::int64_t key = static_cast<std::int64_t>(blockIdx.x) * turned_tile;
  const std::int64_t element = static_cast<std::int64_t>(blockIdx.y) * turned_tile;
  const std::int64_t head = blockIdx.z;
  for (int row = threadIdx.y; row < turned_tile; row += 8) {
    const std::int64_t k = key + row, e = element + threadIdx.x;
    const bool inside = k < v.extent[0] && e < v.extent[2];
    tile[row][threadIdx.x] = inside ? load_element(v.at(k, head, e), v.dtype) : 0.0F;
  }
  __syncthreads();
  for (int row = threadIdx.y; row < turned_tile; row += 8) {
    const std::int64_t e = element + row, k = key + threadIdx.x;
    if (e < turned.extent[1] && k < turned.extent[2]) {
      store_element(turned.at(head, e, k), turned.dtype, tile[threadIdx.x][row]);
    }
  }
}

// One block per row of scores [heads * tokens, pitch].
__global__ void __launch_bounds__(threads)
    softmax_kernel(AnyView<2> scores, std::int64_t tokens, std::int64_t before) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t visible = before + row % tokens + 1;
  float maximum = -INFINITY;
  for (std::int64_t k = threadIdx.x; k < visible; k += threads) {
    maximum = fmaxf(maximum, load_element(scores.at(row, k), scores.dtype));
  }
  maximum = block_max(maximum);
  float sum = 0.0F;
  for (std::int64_t k = threadIdx.x; k < visible; k += threads) {
    sum += exp2f((load_element(scores.at(row, k), scores.dtype) - maximum) * log2_e);
  }
  const float factor = 1.0F / block_sum(sum);
  for (std::int64_t k = threadIdx.x; k < scores.extent[1]; k += threads) {
    const float weight =
        k < visible
            ? exp2f((load_element(scores.at(row, k), scores.dtype) - maximum) * log2_e) * factor
            : 0.0F;
    store_element(scores.at(row, k), scores.dtype, weight);
  }
}

}  // namespace

std::int64_t naive_scores(const AttentionArgs& args) {
  const auto [tokens, heads, head_dim] = args.q.extent;
  const std::int64_t elements = (heads * tokens + args.k.extent[1] * head_dim) * pitch_of(args);
  return ceil_div(elements * static_cast<std::int64_t>(bytes_of(args.q.dtype)), 4);
}

void naive_attention(const AttentionArgs& args, CUstream_st* stream) {
  const auto [tokens, heads, head_dim] = args.q.extent;
  const auto [keys, kv_heads, unused] = args.k.extent;
  const std::int64_t pitch = pitch_of(args);
  const DType dtype = args.q.dtype;
  auto* const memory = reinterpret_cast<std::byte*>(args.scores.data);
  const AnyView<3> scores{memory, dtype, {heads, tokens, pitch}};
  const AnyView<3> turned{
      memory + heads * tokens * pitch * static_cast<std::int64_t>(bytes_of(dtype)),
      dtype,
      {kv_heads, head_dim, pitch}};

  const dim3 blocks(static_cast<unsigned>(ceil_div(pitch, turned_tile)),
                    static_cast<unsigned>(ceil_div(head_dim, turned_tile)),
                    static_cast<unsigned>(kv_heads));
  turn_kernel<<<blocks, dim3(turned_tile, 8), 0, stream>>>(args.v, turned);
  check_cuda(cudaGetLastError(), "attention turn launch");

  const auto head_of = [](const auto& rows, std::int64_t head) {  // [rows, head_dim]
    using View2 = BasicAnyView<std::remove_reference_t<decltype(*rows.data)>, 2>;
    return View2{
        rows.at(0, head, 0), rows.dtype, {rows.extent[0], rows.extent[2]}, {rows.stride[0], 1}};
  };
  for (std::int64_t h = 0; h < heads; ++h) {
    const std::int64_t kv = h / (heads / kv_heads);
    const AnyView<2> row = scores[h];
    linear({head_of(args.q, h), head_of(args.k, kv), {}, row.slice(1, 0, keys), false, args.scale},
           stream, false);
  }
  softmax_kernel<<<static_cast<unsigned>(heads * tokens), threads, 0, stream>>>(
      {memory, dtype, {heads * tokens, pitch}}, tokens, keys - tokens);
  check_cuda(cudaGetLastError(), "attention softmax launch");
  for (std::int64_t h = 0; h < heads; ++h) {
    const std::int64_t kv = h / (heads / kv_heads);
    linear({scores[h], turned[kv], {}, head_of(args.y, h)}, stream, false);
  }
}

}  // namespace chunkstate::cuda
