// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "kernels/attention/attention.hpp"
#include "kernels/attention/attention_library.hpp"
#include "kernels/attention/flash.cuh"
#include "kernels/attention/naive.cuh"
#include "kernels/base/check.hpp"
#include "kernels/base/cuda_check.cuh"
#include "kernels/base/elements.cuh"

namespace chunkstate::cuda {
namespace {

constexpr int warps = 8;
constexpr int threads = warps * warp_size;
constexpr int per_warp = 4;                 // queries of a warp
constexpr int queries = warps * per_warp;   // of a block
constexpr int keys_per_round = warp_size;   // one per lane
constexpr std::int64_t max_head_dim = 256;  // three fp32 tiles in 99 KB of shared memory
constexpr float log2_e = 1.4426950408889634F;

constexpr std::int64_t shared_bytes(std::int64_t head_dim) {
  return (queries * head_dim + keys_per_round * (2 * head_dim + 1)) * 4;
}

__device__ void load_rows(float* shared, std::int64_t pitch, const ConstAnyView<3>& view,
                          std::int64_t head, std::int64_t first, int rows, float factor) {
  const int head_dim = static_cast<int>(view.extent[2]);
  for (int index = threadIdx.x; index < rows * head_dim; index += threads) {
    const int row = index / head_dim;
    const int d = index % head_dim;
    const bool inside = first + row < view.extent[0];
    shared[row * pitch + d] =
        inside ? load_element(view.at(first + row, head, d), view.dtype) * factor : 0.0F;
  }
}

// Any storage types, strides and head_dim, in fp32. A block works on 32 queries of a head, a warp
// on 4 of them. Lane l owns key l of the round for the scores, and elements l, l + 32, ... of the
// output.
template <int per_lane>
__global__ void __launch_bounds__(threads) attention_kernel(AttentionArgs args) {
  extern __shared__ float shared_floats[];
  const int head_dim = static_cast<int>(args.q.extent[2]);
  float* const q_tile = shared_floats;
  float* const v_tile = q_tile + queries * head_dim;
  float* const k_tile = v_tile + keys_per_round * head_dim;  // pitch head_dim + 1: no bank conflict

  const std::int64_t heads = args.q.extent[1];
  const std::int64_t head = blockIdx.x % heads;
  const std::int64_t kv_head = head / (heads / args.k.extent[1]);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x / heads) * queries;
  const std::int64_t before = args.k.extent[0] - args.q.extent[0];
  const std::int64_t end = before + min(first + queries, args.q.extent[0]);
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const float* const q = q_tile + warp * per_warp * head_dim;

  load_rows(q_tile, head_dim, args.q, head, first, queries, args.scale * log2_e);
  float output[per_warp][per_lane] = {};
  float maximum[per_warp], sum[per_warp] = {};
#pragma unroll
  for (int i = 0; i < per_warp; ++i) maximum[i] = -INFINITY;

  for (std::int64_t key = 0; key < end; key += keys_per_round) {
    __syncthreads();
    load_rows(k_tile, head_dim + 1, args.k, kv_head, key, keys_per_round, 1.0F);
    load_rows(v_tile, head_dim, args.v, kv_head, key, keys_per_round, 1.0F);
    __syncthreads();

    float score[per_warp] = {};
    for (int d = 0; d < head_dim; ++d) {
      const float k = k_tile[lane * (head_dim + 1) + d];
#pragma unroll
      for (int i = 0; i < per_warp; ++i) score[i] += q[i * head_dim + d] * k;
    }
#pragma unroll
    for (int i = 0; i < per_warp; ++i) {
      const std::int64_t query = before + first + warp * per_warp + i;
      if (key + lane > query) score[i] = -INFINITY;
      const float largest = fmaxf(maximum[i], warp_max(score[i]));
      const float correction = exp2f(maximum[i] - largest);
      score[i] = exp2f(score[i] - largest);
      maximum[i] = largest;
      sum[i] = sum[i] * correction + warp_sum(score[i]);
#pragma unroll
      for (int n = 0; n < per_lane; ++n) output[i][n] *= correction;
    }
    for (int j = 0; j < keys_per_round; ++j) {
      float probability[per_warp];
#pragma unroll
      for (int i = 0; i < per_warp; ++i) probability[i] = __shfl_sync(full_warp, score[i], j);
#pragma unroll
      for (int n = 0; n < per_lane; ++n) {
        const int d = n * warp_size + lane;
        const float v = d < head_dim ? v_tile[j * head_dim + d] : 0.0F;
#pragma unroll
        for (int i = 0; i < per_warp; ++i) output[i][n] += probability[i] * v;
      }
    }
  }

#pragma unroll
  for (int i = 0; i < per_warp; ++i) {
    const std::int64_t token = first + warp * per_warp + i;
    if (token >= args.q.extent[0]) continue;
#pragma unroll
    for (int n = 0; n < per_lane; ++n) {
      const int d = n * warp_size + lane;
      if (d < head_dim)
        store_element(args.y.at(token, head, d), args.y.dtype, output[i][n] / sum[i]);
    }
  }
}

template <int per_lane>
void launch(const AttentionArgs& args, CUstream_st* stream) {
  const auto bytes = static_cast<int>(shared_bytes(args.q.extent[2]));
  const auto kernel = attention_kernel<per_lane>;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
             "attention shared memory");
  const auto blocks = static_cast<unsigned>(ceil_div(args.q.extent[0], queries) * args.q.extent[1]);
  kernel<<<blocks, threads, bytes, stream>>>(args);
  check_cuda(cudaGetLastError(), "attention launch");
}

}  // namespace

std::int64_t attention_scores(const AttentionArgs& args) { return naive_scores(args); }

void attention(const AttentionArgs& args, CUstream_st* stream) {
  const auto [tokens, heads, head_dim] = args.q.extent;
  if (tokens == 0 || heads == 0 || head_dim == 0) return;
  if (head_dim > max_head_dim) {
    throw ShapeError("attention: head_dim is " + std::to_string(head_dim) +
                     ", the cuda backend takes at most " + std::to_string(max_head_dim));
  }
  if (args.choice.method == AttentionMethod::naive) return naive_attention(args, stream);
  if (attention_by_library(args, stream) || flash_attention(args, stream)) return;
  if (head_dim <= 64) return launch<2>(args, stream);
  if (head_dim <= 128) return launch<4>(args, stream);
  launch<8>(args, stream);
}

std::string attention_provider(const AttentionArgs& args) {
  if (args.choice.method == AttentionMethod::naive) return "own kernels";
  const AttentionLibrary library = attention_library(args);
  return library.used ? library.text : "own kernel (" + library.text + ")";
}

}  // namespace chunkstate::cuda
