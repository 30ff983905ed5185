// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>

#include "kernels/attention/step_split.cuh"
#include "kernels/base/check.hpp"
#include "kernels/base/workspace.cuh"

// Decode attention: the keys of a sequence are split among blocks, which leave partial results that
// a second kernel adds in the order of the keys. The split depends on the sequence's length alone,
// so its result depends neither on the capacity of its cache nor on its neighbours in the batch.
namespace chunkstate::cuda {
namespace {

using namespace step;

constexpr int combine_warps = 8;
constexpr int splits_per_warp = max_splits / combine_warps;

// One block per (sequence, head). Warp w adds splits w, w + 8, ...: all it needs of them is on its
// way at once.
template <int per_thread>
__global__ void __launch_bounds__(combine_warps* warp_size)
    combine_kernel(const __grid_constant__ AttentionStepArgs args, float* partial, int splits) {
  __shared__ float output[combine_warps][per_thread * warp_size];
  let_next_kernel_start();
  const auto heads = static_cast<unsigned>(args.q.extent[1]);
  const std::int64_t sequence = blockIdx.x / heads, head = blockIdx.x % heads;
  const auto head_dim = static_cast<int>(args.q.extent[2]);
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  // Before the wait: split_kernel lets this one start when the lengths are complete.
  const std::int64_t length = __ldcg(&args.lengths(sequence));
  const auto used = static_cast<int>(ceil_div(length, keys_of_split(length)));
  const float* const start = partial_of(partial, blockIdx.x, splits, head_dim);
  wait_for_previous_kernel();

  float part[splits_per_warp][per_thread], maximum[2], sum[2];
#pragma unroll
  for (int i = 0; i < splits_per_warp; ++i) {
    const int s = warp + i * combine_warps;
    const float* const row = start + 2 * splits + static_cast<std::int64_t>(s) * head_dim;
#pragma unroll
    for (int k = 0; k < per_thread; ++k) {
      const int e = lane + k * warp_size;
      part[i][k] = s < used && e < head_dim ? __ldcg(row + e) : 0.0F;
    }
  }
  static_assert(max_splits == 2 * warp_size, "lane l weighs splits l and l + 32");
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int s = lane + i * warp_size;
    maximum[i] = s < used ? __ldcg(start + 2 * s) : -INFINITY;
    sum[i] = s < used ? __ldcg(start + 2 * s + 1) : 0.0F;
  }
  const float highest = warp_max(fmaxf(maximum[0], maximum[1]));
  const float weight[2] = {exp2f(maximum[0] - highest), exp2f(maximum[1] - highest)};
  const float total = warp_sum(weight[0] * sum[0] + weight[1] * sum[1]);

  float value[per_thread] = {};
#pragma unroll
  for (int i = 0; i < splits_per_warp; ++i) {
    const int s = warp + i * combine_warps;
    const float own = __shfl_sync(full_warp, weight[i * combine_warps / warp_size], s % warp_size);
#pragma unroll
    for (int k = 0; k < per_thread; ++k) value[k] += own * part[i][k];
  }
#pragma unroll
  for (int k = 0; k < per_thread; ++k) output[warp][lane + k * warp_size] = value[k];
  __syncthreads();
  for (int e = threadIdx.x; e < head_dim; e += combine_warps * warp_size) {
    float result = 0.0F;
#pragma unroll
    for (int w = 0; w < combine_warps; ++w) result += output[w][e];
    store_element(args.y.at(sequence, head, e), args.y.dtype, result / total);
  }
}

void check_head_dim(const char* op, std::int64_t head_dim) {
  if (head_dim <= max_head_dim) return;
  throw ShapeError(std::string(op) + ": head_dim is " + std::to_string(head_dim) +
                   ", the cuda backend takes at most " + std::to_string(max_head_dim));
}

std::int64_t splits_of(std::int64_t capacity) {
  return std::min(ceil_div(capacity, keys_per_tile), std::int64_t{max_splits});
}

using SplitKernel = void (*)(AttentionStepArgs, Append, float*, int);

template <Storage storage, int group>
SplitKernel split_kernel_of(std::int64_t head_dim) {
  return head_dim <= 64 ? split_kernel<storage, 8, group> : split_kernel<storage, 16, group>;
}

template <int group>
SplitKernel split_kernel_for(const AttentionStepArgs& args) {
  const std::int64_t head_dim = args.q.extent[2];
  const bool vectors = head_dim <= 128 && allows_vectors<8>(args.k) && allows_vectors<8>(args.v);
  switch (vectors ? storage_of(args.k, args.v) : Storage::mixed) {
    case Storage::fp32:
      return split_kernel_of<Storage::fp32, group>(head_dim);
    case Storage::bf16:
      return split_kernel_of<Storage::bf16, group>(head_dim);
    case Storage::fp16:
      return split_kernel_of<Storage::fp16, group>(head_dim);
    case Storage::mixed:
      break;
  }
  return split_kernel<Storage::mixed, warp_size, group>;
}

void launch(const AttentionStepArgs& args, const Append& append, float* partial,
            CUstream_st* stream) {
  const auto [batch, heads, head_dim] = args.q.extent;
  const std::int64_t kv_heads = args.k.extent[2];
  const auto splits = static_cast<int>(splits_of(args.k.extent[1]));
  const int group = heads == kv_heads ? 1 : 4;
  const std::int64_t groups = ceil_div(heads / kv_heads, group);
  launch_overlapping("attention_step split launch",
                     group == 1 ? split_kernel_for<1>(args) : split_kernel_for<4>(args),
                     static_cast<unsigned>(batch * kv_heads * groups * splits), step_threads,
                     stream, args, append, partial, splits);
  launch_overlapping("attention_step combine launch",
                     head_dim <= 64    ? combine_kernel<2>
                     : head_dim <= 128 ? combine_kernel<4>
                                       : combine_kernel<8>,
                     static_cast<unsigned>(batch * heads), combine_warps * warp_size, stream, args,
                     partial, splits);
}

}  // namespace

void attention_step(const AttentionStepArgs& args, CUstream_st* stream) {
  const auto [batch, heads, head_dim] = args.q.extent;
  if (batch == 0 || heads == 0 || head_dim == 0) return;
  check_head_dim("attention_step", head_dim);
  const Workspace workspace(attention_step_partials(args) * 4, stream);
  launch(args, {}, workspace.as<float>(), stream);
}

void attention_append_step(const AttentionAppendStepArgs& args, CUstream_st* stream) {
  const auto [batch, heads, head_dim] = args.step.q.extent;
  if (batch == 0 || heads == 0 || head_dim == 0) return;
  check_head_dim("attention_append_step", head_dim);
  const Append append{args.k, args.v, args.new_k, args.new_v, args.inverse_frequency};
  if (args.step.choice.method == AttentionMethod::naive) {
    launch_naive_step(args.step, append, args.partials.data, stream);
  } else {
    launch(args.step, append, args.partials.data, stream);
  }
}

}  // namespace chunkstate::cuda

namespace chunkstate {

std::int64_t attention_step_partials(const AttentionStepArgs& args) {
  const auto [batch, heads, head_dim] = args.q.extent;
  const std::int64_t capacity = args.k.extent[1];
  return args.choice.method == AttentionMethod::naive
             ? batch * heads * ceil_div(capacity, cuda::keys_per_tile) *
                   (head_dim + cuda::keys_per_tile)
             : batch * heads * cuda::splits_of(capacity) * (head_dim + 2);
}

}  // namespace chunkstate
