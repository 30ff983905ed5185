// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "kernels/attention/attention.hpp"
#include "kernels/base/check.hpp"
#include "kernels/base/elements.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/base/workspace.cuh"

// Decode attention: the keys of a sequence are split among blocks, which leave partial results that
// a second kernel adds in the order of the keys. The split depends on the key's index alone, so a
// sequence's result depends neither on the capacity of its cache nor on its neighbours in the
// batch.
namespace chunkstate::cuda {
namespace {

constexpr int warps = 4;
constexpr int threads = warps * warp_size;
constexpr int keys_per_split = 64;
constexpr int rows_ahead = 8;    // rows of keys that a thread loads before it uses the first
constexpr int group = 4;         // query heads that share one reading of keys and values
constexpr int max_per_lane = 8;  // elements of a row a lane holds
constexpr std::int64_t max_head_dim = max_per_lane * warp_size;
constexpr float log2_e = 1.4426950408889634F;

// How the lanes of a warp share rows of head_dim elements: with vectors, lanes_per_row (a power of
// two) neighbours hold 8 elements each and the warp has several rows at once; without, lane l holds
// elements l, l + 32, ... of one row.
template <bool vectors>
struct RowOfLane {
  int lanes_per_row, element, row;  // row: which of the warp's rows at once

  __device__ RowOfLane(int head_dim, int lane) : lanes_per_row(warp_size), element(lane), row(0) {
    if constexpr (vectors) {
      while (lanes_per_row / 2 * max_per_lane >= head_dim) lanes_per_row /= 2;
      element = lane % lanes_per_row * max_per_lane;
      row = lane / lanes_per_row;
    }
  }
  __device__ int rows_at_once() const { return warp_size / lanes_per_row; }
  __device__ int index(int k) const { return vectors ? element + k : element + k * warp_size; }

  __device__ void load(const std::byte* row_start, DType dtype, int head_dim,
                       float (&value)[max_per_lane]) const {
#pragma unroll
    for (int k = 0; k < max_per_lane; ++k) value[k] = 0.0F;
    const auto bytes = static_cast<int>(bytes_of(dtype));
    if constexpr (vectors) {
      if (element < head_dim) load_elements(row_start + element * bytes, dtype, value);
    } else {
#pragma unroll
      for (int k = 0; k < max_per_lane; ++k) {
        if (index(k) < head_dim) value[k] = load_element(row_start + index(k) * bytes, dtype);
      }
    }
  }
};

/// What comes before the attention, or nothing (no new key). Position of the new token: length - 1.
struct Append {
  AnyView<4> k, v;
  ConstAnyView<3> new_k, new_v;
  View<const float, 1> inverse_frequency;
};

/// Element `e` of a row whose first 2 * pairs elements are rotated, and its partner in the rotation
/// (`e` itself for the others).
__device__ __forceinline__ int partner(int e, int pairs) {
  return e >= 2 * pairs ? e : e < pairs ? e + pairs : e - pairs;
}
/// table: cosines, then sines, of the pairs.
__device__ __forceinline__ float rotated(float value, float other, int e, int pairs,
                                         const float* table) {
  if (e >= 2 * pairs) return value;
  const int pair = e % pairs;
  return value * table[pair] + (e < pairs ? -other : other) * table[pairs + pair];
}

/// Rows [head, head + count) of the queries, rotated, in shared memory.
__device__ __forceinline__ void stage_queries(const ConstAnyView<3>& q, std::int64_t sequence,
                                              std::int64_t head, int count, int pairs,
                                              const float* table,
                                              float (&query)[group][max_head_dim]) {
  constexpr int turns = group * static_cast<int>(max_head_dim) / threads;
  const auto head_dim = static_cast<int>(q.extent[2]);
  const int elements = count * head_dim;
  float value[turns] = {}, other[turns] = {};
  with_type(q.dtype, [&](auto type) {
#pragma unroll
    for (int t = 0; t < turns; ++t) {
      const int i = static_cast<int>(threadIdx.x) + t * threads;
      if (i >= elements) continue;
      const int h = i / head_dim;
      value[t] = load_element(q.at(sequence, head + h, i % head_dim), type);
      other[t] = load_element(q.at(sequence, head + h, partner(i % head_dim, pairs)), type);
    }
  });
#pragma unroll
  for (int t = 0; t < turns; ++t) {
    const int i = static_cast<int>(threadIdx.x) + t * threads;
    if (i >= elements) continue;
    query[i / head_dim][i % head_dim] = rotated(value[t], other[t], i % head_dim, pairs, table);
  }
}

/// Makes the table, and appends the new key and value if this block's keys hold the new position.
__device__ void append_new(const Append& append, std::int64_t sequence, std::int64_t kv_head,
                           std::int64_t position, bool holds_position, float* table) {
  const auto pairs = static_cast<int>(append.inverse_frequency.extent[0]);
  const auto head_dim = static_cast<int>(append.new_k.extent[2]);
  for (int pair = threadIdx.x; pair < pairs; pair += threads) {
    // As rope does it: precise functions, for angles of 10^5 radians.
    sincosf(static_cast<float>(position) * append.inverse_frequency(pair), &table[pairs + pair],
            &table[pair]);
  }
  __syncthreads();
  for (int e = threadIdx.x; holds_position && e < head_dim; e += threads) {
    const ConstAnyView<3>& k = append.new_k;
    const float value = load_element(k.at(sequence, kv_head, e), k.dtype);
    const float other = load_element(k.at(sequence, kv_head, partner(e, pairs)), k.dtype);
    const float v = load_element(append.new_v.at(sequence, kv_head, e), append.new_v.dtype);
    store_element(append.k.at(sequence, position, kv_head, e), append.k.dtype,
                  rotated(value, other, e, pairs, table));
    store_element(append.v.at(sequence, position, kv_head, e), append.v.dtype, v);
  }
  __syncthreads();
}

// partial: per (sequence, head, split) the maximum of the scores, the sum of the probabilities
// relative to it, then head_dim unnormalised outputs.
template <bool vectors, bool appends>
__global__ void __launch_bounds__(threads)
    split_kernel(const __grid_constant__ AttentionStepArgs args,
                 const __grid_constant__ Append append, float* partial, int splits) {
  overlap_kernels();
  __shared__ float probability[group][keys_per_split];
  __shared__ float warp_output[warps][group][max_head_dim];
  __shared__ float query[group][max_head_dim];
  const std::int64_t kv_heads = args.k.extent[2];
  const int heads_per_kv = static_cast<int>(args.q.extent[1] / kv_heads);
  const int head_dim = static_cast<int>(args.q.extent[2]);
  const int split = static_cast<int>(blockIdx.x % splits);
  const std::int64_t kv_head = blockIdx.x / splits % kv_heads;
  const std::int64_t sequence = blockIdx.x / splits / kv_heads;
  const std::int64_t first = static_cast<std::int64_t>(split) * keys_per_split;
  const auto keys =
      static_cast<int>(min(args.lengths(sequence) - first, std::int64_t{keys_per_split}));
  if (keys <= 0) return;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const RowOfLane<vectors> mine(head_dim, lane);
  const int rows_at_once = mine.rows_at_once();
  const int stride = warps * rows_at_once;
  const auto load_rows = [&](const ConstAnyView<4>& cache, int base,
                             float(&rows)[rows_ahead][max_per_lane]) {
    with_type(cache.dtype, [&](auto type) {
#pragma unroll
      for (int u = 0; u < rows_ahead; ++u) {
        const int key = min(base + u * stride + mine.row, keys - 1);
        mine.load(cache.at(sequence, first + key, kv_head, 0), type, head_dim, rows[u]);
      }
    });
  };
  __shared__ float table[appends ? max_head_dim : 1];
  if constexpr (appends) {
    const std::int64_t position = args.lengths(sequence) - 1;
    append_new(append, sequence, kv_head, position, position - first < keys, table);
  }

  for (int offset = 0; offset < heads_per_kv; offset += group) {
    const int count = min(group, heads_per_kv - offset);
    const std::int64_t head = kv_head * heads_per_kv + offset;
    const int pairs = appends ? static_cast<int>(append.inverse_frequency.extent[0]) : 0;
    stage_queries(args.q, sequence, head, count, pairs, table, query);
    __syncthreads();
    float q[group][max_per_lane] = {};
#pragma unroll
    for (int g = 0; g < group; ++g) {
#pragma unroll
      for (int e = 0; e < max_per_lane; ++e) {
        if (g < count && mine.index(e) < head_dim) q[g][e] = query[g][mine.index(e)];
      }
    }

    for (int base = warp * rows_at_once; base < keys; base += stride * rows_ahead) {
      float k[rows_ahead][max_per_lane];
      load_rows(args.k, base, k);
#pragma unroll
      for (int u = 0; u < rows_ahead; ++u) {
        const int key = base + u * stride + mine.row;
#pragma unroll
        for (int h = 0; h < group; ++h) {
          float score = 0.0F;
#pragma unroll
          for (int e = 0; e < max_per_lane; ++e) score += q[h][e] * k[u][e];
          for (int step = mine.lanes_per_row / 2; step > 0; step /= 2) {
            score += __shfl_xor_sync(full_warp, score, step);
          }
          if (lane % mine.lanes_per_row == 0 && key < keys) {
            probability[h][key] = score * args.scale * log2_e;
          }
        }
      }
    }
    __syncthreads();

    for (int h = warp; h < count; h += warps) {
      float maximum = -INFINITY;
      for (int key = lane; key < keys; key += warp_size)
        maximum = fmaxf(maximum, probability[h][key]);
      maximum = warp_max(maximum);
      float sum = 0.0F;
      for (int key = lane; key < keys; key += warp_size) {
        probability[h][key] = exp2f(probability[h][key] - maximum);
        sum += probability[h][key];
      }
      sum = warp_sum(sum);
      if (lane == 0) {
        float* out =
            partial + ((sequence * args.q.extent[1] + head + h) * splits + split) * (head_dim + 2);
        out[0] = maximum;
        out[1] = sum;
      }
    }
    __syncthreads();

    float output[group][max_per_lane] = {};
    for (int base = warp * rows_at_once; base < keys; base += stride * rows_ahead) {
      float v[rows_ahead][max_per_lane];
      load_rows(args.v, base, v);
#pragma unroll
      for (int u = 0; u < rows_ahead; ++u) {
        const int key = base + u * stride + mine.row;
#pragma unroll
        for (int h = 0; h < group; ++h) {
          const float p = h < count && key < keys ? probability[h][key] : 0.0F;
#pragma unroll
          for (int e = 0; e < max_per_lane; ++e) output[h][e] += p * v[u][e];
        }
      }
    }
#pragma unroll
    for (int h = 0; h < group; ++h) {
#pragma unroll
      for (int e = 0; e < max_per_lane; ++e) {
        for (int step = mine.lanes_per_row; step < warp_size; step *= 2) {
          output[h][e] += __shfl_xor_sync(full_warp, output[h][e], step);
        }
        if (mine.row == 0 && mine.index(e) < head_dim) {
          warp_output[warp][h][mine.index(e)] = output[h][e];
        }
      }
    }
    __syncthreads();
    for (int index = threadIdx.x; index < count * head_dim; index += threads) {
      const int h = index / head_dim;
      const int d = index % head_dim;
      float value = 0.0F;
      for (int w = 0; w < warps; ++w) value += warp_output[w][h][d];
      partial[((sequence * args.q.extent[1] + head + h) * splits + split) * (head_dim + 2) + 2 +
              d] = value;
    }
    __syncthreads();
  }
}

// One block per (sequence, head), one thread per element.
__global__ void combine_kernel(AttentionStepArgs args, const float* partial, int splits) {
  overlap_kernels();
  const std::int64_t heads = args.q.extent[1];
  const std::int64_t head_dim = args.q.extent[2];
  const std::int64_t sequence = blockIdx.x / heads;
  const std::int64_t head = blockIdx.x % heads;
  const std::int64_t used = ceil_div(args.lengths(sequence), keys_per_split);
  const float* const start = partial + (sequence * heads + head) * splits * (head_dim + 2);

  float maximum = -INFINITY;
#pragma unroll 8
  for (std::int64_t s = 0; s < used; ++s) maximum = fmaxf(maximum, start[s * (head_dim + 2)]);
  for (std::int64_t d = threadIdx.x; d < head_dim; d += blockDim.x) {
    float value = 0.0F, sum = 0.0F;
#pragma unroll 8
    for (std::int64_t s = 0; s < used; ++s) {
      const float* split = start + s * (head_dim + 2);
      const float weight = exp2f(split[0] - maximum);
      sum += weight * split[1];
      value += weight * split[2 + d];
    }
    store_element(args.y.at(sequence, head, d), args.y.dtype, value / sum);
  }
}

// AttentionMethod::naive, in four kernels that pass everything through memory: scores, softmax,
// values in parts of keys_per_split, their sum. Per (sequence, head): scores, then parts.
struct NaiveScratch {
  float* data;
  std::int64_t splits;

  __device__ float* scores(std::int64_t row, int head_dim) const {
    return data + row * splits * (keys_per_split + head_dim);
  }
  __device__ float* parts(std::int64_t row, int head_dim) const {
    return scores(row, head_dim) + splits * keys_per_split;
  }
};

// One block per (sequence, head, split). The first keys_per_split threads have a key each; all of
// them append and load.
__global__ void __launch_bounds__(threads)
    naive_scores_kernel(const __grid_constant__ AttentionStepArgs args,
                        const __grid_constant__ Append append, NaiveScratch scratch) {
  static_assert(keys_per_split <= threads, "a thread per key");
  overlap_kernels();
  __shared__ float table[max_head_dim], q[max_head_dim];
  const std::int64_t heads = args.q.extent[1];
  const auto head_dim = static_cast<int>(args.q.extent[2]);
  const std::int64_t split = blockIdx.x % scratch.splits;
  const std::int64_t head = blockIdx.x / scratch.splits % heads;
  const std::int64_t sequence = blockIdx.x / scratch.splits / heads;
  const std::int64_t kv_head = head / (heads / args.k.extent[2]);
  const std::int64_t first = split * keys_per_split;
  const std::int64_t length = args.lengths(sequence);
  if (first >= length) return;
  // All heads of a kv head append the same values.
  append_new(append, sequence, kv_head, length - 1, length - 1 - first < keys_per_split, table);
  const auto pairs = static_cast<int>(append.inverse_frequency.extent[0]);
  for (int e = threadIdx.x; e < head_dim; e += threads) {
    q[e] = rotated(load_element(args.q.at(sequence, head, e), args.q.dtype),
                   load_element(args.q.at(sequence, head, partner(e, pairs)), args.q.dtype), e,
                   pairs, table);
  }
  __syncthreads();
  const std::int64_t key = first + threadIdx.x;
  if (threadIdx.x >= keys_per_split || key >= length) return;
  float score = 0.0F;
  for (int e = 0; e < head_dim; ++e) {
    score += q[e] * load_element(args.k.at(sequence, key, kv_head, e), args.k.dtype);
  }
  scratch.scores(sequence * heads + head, head_dim)[key] = score * args.scale * log2_e;
}

// One block per (sequence, head).
__global__ void __launch_bounds__(threads)
    naive_softmax_kernel(const __grid_constant__ AttentionStepArgs args, NaiveScratch scratch) {
  overlap_kernels();
  __shared__ float partial[warps];
  const std::int64_t length = args.lengths(blockIdx.x / args.q.extent[1]);
  float* const scores = scratch.scores(blockIdx.x, static_cast<int>(args.q.extent[2]));
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  float maximum = -INFINITY;
  for (std::int64_t k = threadIdx.x; k < length; k += threads) maximum = fmaxf(maximum, scores[k]);
  maximum = warp_max(maximum);
  if (threadIdx.x % warp_size == 0) partial[warp] = maximum;
  __syncthreads();
  for (int w = 0; w < warps; ++w) maximum = fmaxf(maximum, partial[w]);
  __syncthreads();
  float sum = 0.0F;
  for (std::int64_t k = threadIdx.x; k < length; k += threads) sum += exp2f(scores[k] - maximum);
  sum = warp_sum(sum);
  if (threadIdx.x % warp_size == 0) partial[warp] = sum;
  __syncthreads();
  sum = 0.0F;
  for (int w = 0; w < warps; ++w) sum += partial[w];
  for (std::int64_t k = threadIdx.x; k < length; k += threads) {
    scores[k] = exp2f(scores[k] - maximum) / sum;
  }
}

// One block per (sequence, head, split), one thread per element.
__global__ void __launch_bounds__(threads)
    naive_values_kernel(const __grid_constant__ AttentionStepArgs args, NaiveScratch scratch) {
  overlap_kernels();
  const std::int64_t heads = args.q.extent[1];
  const auto head_dim = static_cast<int>(args.q.extent[2]);
  const std::int64_t split = blockIdx.x % scratch.splits;
  const std::int64_t row = blockIdx.x / scratch.splits;
  const std::int64_t kv_head = row % heads / (heads / args.k.extent[2]);
  const std::int64_t first = split * keys_per_split;
  const std::int64_t length = args.lengths(row / heads);
  const std::int64_t end = min(first + keys_per_split, length);
  const float* const weights = scratch.scores(row, head_dim);
  for (int e = threadIdx.x; e < head_dim && first < length; e += threads) {
    float sum = 0.0F;
    for (std::int64_t k = first; k < end; ++k) {
      sum += weights[k] * load_element(args.v.at(row / heads, k, kv_head, e), args.v.dtype);
    }
    scratch.parts(row, head_dim)[split * head_dim + e] = sum;
  }
}

// One block per (sequence, head), one thread per element.
__global__ void __launch_bounds__(threads)
    naive_sum_kernel(const __grid_constant__ AttentionStepArgs args, NaiveScratch scratch) {
  overlap_kernels();
  const std::int64_t heads = args.q.extent[1];
  const auto head_dim = static_cast<int>(args.q.extent[2]);
  const std::int64_t row = blockIdx.x;
  const std::int64_t used = ceil_div(args.lengths(row / heads), keys_per_split);
  const float* const parts = scratch.parts(row, head_dim);
  for (int e = threadIdx.x; e < head_dim; e += threads) {
    float sum = 0.0F;
    for (std::int64_t s = 0; s < used; ++s) sum += parts[s * head_dim + e];
    store_element(args.y.at(row / heads, row % heads, e), args.y.dtype, sum);
  }
}

void launch_naive(const AttentionStepArgs& args, const Append& append, float* partials,
                  CUstream_st* stream) {
  const auto [batch, heads, head_dim] = args.q.extent;
  const NaiveScratch scratch{partials, ceil_div(args.k.extent[1], keys_per_split)};
  const auto rows = static_cast<unsigned>(batch * heads);
  const auto blocks = static_cast<unsigned>(batch * heads * scratch.splits);
  launch_overlapping("attention_step scores launch", naive_scores_kernel, blocks, threads, stream,
                     args, append, scratch);
  launch_overlapping("attention_step softmax launch", naive_softmax_kernel, rows, threads, stream,
                     args, scratch);
  launch_overlapping("attention_step values launch", naive_values_kernel, blocks, threads, stream,
                     args, scratch);
  launch_overlapping("attention_step sum launch", naive_sum_kernel, rows, threads, stream, args,
                     scratch);
}

void check_head_dim(const char* op, std::int64_t head_dim) {
  if (head_dim <= max_head_dim) return;
  throw ShapeError(std::string(op) + ": head_dim is " + std::to_string(head_dim) +
                   ", the cuda backend takes at most " + std::to_string(max_head_dim));
}

template <bool appends>
void launch(const AttentionStepArgs& args, const Append& append, float* partial,
            CUstream_st* stream) {
  const auto [batch, heads, head_dim] = args.q.extent;
  const auto splits = static_cast<int>(ceil_div(args.k.extent[1], keys_per_split));
  const auto blocks = static_cast<unsigned>(batch * args.k.extent[2] * splits);
  const bool vectors =
      allows_vectors<8>(args.q) && allows_vectors<8>(args.k) && allows_vectors<8>(args.v);
  launch_overlapping("attention_step split launch",
                     vectors ? split_kernel<true, appends> : split_kernel<false, appends>, blocks,
                     threads, stream, args, append, partial, splits);
  launch_overlapping("attention_step combine launch", combine_kernel,
                     static_cast<unsigned>(batch * heads), 128, stream, args, partial, splits);
}

}  // namespace

void attention_step(const AttentionStepArgs& args, CUstream_st* stream) {
  const auto [batch, heads, head_dim] = args.q.extent;
  if (batch == 0 || heads == 0 || head_dim == 0) return;
  check_head_dim("attention_step", head_dim);
  const Workspace workspace(attention_step_partials(args) * 4, stream);
  launch<false>(args, {}, workspace.as<float>(), stream);
}

void attention_append_step(const AttentionAppendStepArgs& args, CUstream_st* stream) {
  const auto [batch, heads, head_dim] = args.step.q.extent;
  if (batch == 0 || heads == 0 || head_dim == 0) return;
  check_head_dim("attention_append_step", head_dim);
  const Append append{args.k, args.v, args.new_k, args.new_v, args.inverse_frequency};
  if (args.step.choice.method == AttentionMethod::naive) {
    launch_naive(args.step, append, args.partials.data, stream);
  } else {
    launch<true>(args.step, append, args.partials.data, stream);
  }
}

}  // namespace chunkstate::cuda

namespace chunkstate {

std::int64_t attention_step_partials(const AttentionStepArgs& args) {
  const auto [batch, heads, head_dim] = args.q.extent;
  const bool naive = args.choice.method == AttentionMethod::naive;
  return batch * heads * ceil_div(args.k.extent[1], cuda::keys_per_split) *
         (head_dim + (naive ? cuda::keys_per_split : 2));
}

}  // namespace chunkstate
