// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/step_append.cuh"
#include "kernels/base/launch.cuh"

namespace chunkstate::cuda {
namespace {

/// table: cosines, then sines, of the pairs.
__device__ __forceinline__ float turned(float value, float other, int e, int pairs,
                                        const float* table) {
  if (e >= 2 * pairs) return value;
  return rotated(value, other, e, pairs, table[e % pairs], table[pairs + e % pairs]);
}

/// Makes the table, and appends the new key and value if this block's keys hold the new position.
__device__ void append_new(const Append& append, std::int64_t sequence, std::int64_t kv_head,
                           std::int64_t position, bool holds_position, float* table) {
  const auto pairs = static_cast<int>(append.inverse_frequency.extent[0]);
  const auto head_dim = static_cast<int>(append.new_k.extent[2]);
  for (int pair = threadIdx.x; pair < pairs; pair += step_threads) {
    // As rope does it: precise functions, for angles of 10^5 radians.
    sincosf(static_cast<float>(position) * append.inverse_frequency(pair), &table[pairs + pair],
            &table[pair]);
  }
  __syncthreads();
  for (int e = threadIdx.x; holds_position && e < head_dim; e += step_threads) {
    const ConstAnyView<3>& k = append.new_k;
    const float value = load_element(k.at(sequence, kv_head, e), k.dtype);
    const float other = load_element(k.at(sequence, kv_head, partner(e, pairs)), k.dtype);
    const float v = load_element(append.new_v.at(sequence, kv_head, e), append.new_v.dtype);
    store_element(append.k.at(sequence, position, kv_head, e), append.k.dtype,
                  turned(value, other, e, pairs, table));
    store_element(append.v.at(sequence, position, kv_head, e), append.v.dtype, v);
  }
  __syncthreads();
}

// AttentionMethod::naive, in four kernels that pass everything through memory: scores, softmax,
// values in parts of keys_per_tile, their sum. Per (sequence, head): scores, then parts.
struct NaiveScratch {
  float* data;
  std::int64_t splits;

  __device__ float* scores(std::int64_t row, int head_dim) const {
    return data + row * splits * (keys_per_tile + head_dim);
  }
  __device__ float* parts(std::int64_t row, int head_dim) const {
    return scores(row, head_dim) + splits * keys_per_tile;
  }
};

// One block per (sequence, head, split). The first keys_per_tile threads have a key each; all of
// them append and load.
__global__ void __launch_bounds__(step_threads)
    naive_scores_kernel(const __grid_constant__ AttentionStepArgs args,
                        const __grid_constant__ Append append, NaiveScratch scratch) {
  static_assert(keys_per_tile <= step_threads, "a thread per key");
  overlap_kernels();
  __shared__ float table[max_head_dim], q[max_head_dim];
  const std::int64_t heads = args.q.extent[1];
  const auto head_dim = static_cast<int>(args.q.extent[2]);
  const std::int64_t split = blockIdx.x % scratch.splits;
  const std::int64_t head = blockIdx.x / scratch.splits % heads;
  const std::int64_t sequence = blockIdx.x / scratch.splits / heads;
  const std::int64_t kv_head = head / (heads / args.k.extent[2]);
  const std::int64_t first = split * keys_per_tile;
  const std::int64_t length = args.lengths(sequence);
  if (first >= length) return;
  // All heads of a kv head append the same values.
  append_new(append, sequence, kv_head, length - 1, length - 1 - first < keys_per_tile, table);
  const auto pairs = static_cast<int>(append.inverse_frequency.extent[0]);
  for (int e = threadIdx.x; e < head_dim; e += step_threads) {
    q[e] = turned(load_element(args.q.at(sequence, head, e), args.q.dtype),
                  load_element(args.q.at(sequence, head, partner(e, pairs)), args.q.dtype), e,
                  pairs, table);
  }
  __syncthreads();
  const std::int64_t key = first + threadIdx.x;
  if (threadIdx.x >= keys_per_tile || key >= length) return;
  float score = 0.0F;
  for (int e = 0; e < head_dim; ++e) {
    score += q[e] * load_element(args.k.at(sequence, key, kv_head, e), args.k.dtype);
  }
  scratch.scores(sequence * heads + head, head_dim)[key] = score * args.scale * log2_e;
}

// One block per (sequence, head).
__global__ void __launch_bounds__(step_threads)
    naive_softmax_kernel(const __grid_constant__ AttentionStepArgs args, NaiveScratch scratch) {
  overlap_kernels();
  __shared__ float partial[step_warps];
  const std::int64_t length = args.lengths(blockIdx.x / args.q.extent[1]);
  float* const scores = scratch.scores(blockIdx.x, static_cast<int>(args.q.extent[2]));
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  float maximum = -INFINITY;
  for (std::int64_t k = threadIdx.x; k < length; k += step_threads)
    maximum = fmaxf(maximum, scores[k]);
  maximum = warp_max(maximum);
  if (threadIdx.x % warp_size == 0) partial[warp] = maximum;
  __syncthreads();
  for (int w = 0; w < step_warps; ++w) maximum = fmaxf(maximum, partial[w]);
  __syncthreads();
  float sum = 0.0F;
  for (std::int64_t k = threadIdx.x; k < length; k += step_threads)
    sum += exp2f(scores[k] - maximum);
  sum = warp_sum(sum);
  if (threadIdx.x % warp_size == 0) partial[warp] = sum;
  __syncthreads();
  sum = 0.0F;
  for (int w = 0; w < step_warps; ++w) sum += partial[w];
  for (std::int64_t k = threadIdx.x; k < length; k += step_threads) {
    scores[k] = exp2f(scores[k] - maximum) / sum;
  }
}

// One block per (sequence, head, split), one thread per element.
__global__ void __launch_bounds__(step_threads)
    naive_values_kernel(const __grid_constant__ AttentionStepArgs args, NaiveScratch scratch) {
  overlap_kernels();
  const std::int64_t heads = args.q.extent[1];
  const auto head_dim = static_cast<int>(args.q.extent[2]);
  const std::int64_t split = blockIdx.x % scratch.splits;
  const std::int64_t row = blockIdx.x / scratch.splits;
  const std::int64_t kv_head = row % heads / (heads / args.k.extent[2]);
  const std::int64_t first = split * keys_per_tile;
  const std::int64_t length = args.lengths(row / heads);
  const std::int64_t end = min(first + keys_per_tile, length);
  const float* const weights = scratch.scores(row, head_dim);
  for (int e = threadIdx.x; e < head_dim && first < length; e += step_threads) {
    float sum = 0.0F;
    for (std::int64_t k = first; k < end; ++k) {
      sum += weights[k] * load_element(args.v.at(row / heads, k, kv_head, e), args.v.dtype);
    }
    scratch.parts(row, head_dim)[split * head_dim + e] = sum;
  }
}

// One block per (sequence, head), one thread per element.
__global__ void __launch_bounds__(step_threads)
    naive_sum_kernel(const __grid_constant__ AttentionStepArgs args, NaiveScratch scratch) {
  overlap_kernels();
  const std::int64_t heads = args.q.extent[1];
  const auto head_dim = static_cast<int>(args.q.extent[2]);
  const std::int64_t row = blockIdx.x;
  const std::int64_t used = ceil_div(args.lengths(row / heads), keys_per_tile);
  const float* const parts = scratch.parts(row, head_dim);
  for (int e = threadIdx.x; e < head_dim; e += step_threads) {
    float sum = 0.0F;
    for (std::int64_t s = 0; s < used; ++s) sum += parts[s * head_dim + e];
    store_element(args.y.at(row / heads, row % heads, e), args.y.dtype, sum);
  }
}

}  // namespace

void launch_naive_step(const AttentionStepArgs& args, const Append& append, float* partials,
                       CUstream_st* stream) {
  const auto [batch, heads, head_dim] = args.q.extent;
  const NaiveScratch scratch{partials, ceil_div(args.k.extent[1], keys_per_tile)};
  const auto rows = static_cast<unsigned>(batch * heads);
  const auto blocks = static_cast<unsigned>(batch * heads * scratch.splits);
  launch_overlapping("attention_step scores launch", naive_scores_kernel, blocks, step_threads,
                     stream, args, append, scratch);
  launch_overlapping("attention_step softmax launch", naive_softmax_kernel, rows, step_threads,
                     stream, args, scratch);
  launch_overlapping("attention_step values launch", naive_values_kernel, blocks, step_threads,
                     stream, args, scratch);
  launch_overlapping("attention_step sum launch", naive_sum_kernel, rows, step_threads, stream,
                     args, scratch);
}

}  // namespace chunkstate::cuda
