// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <climits>

#include "kernels/attention/step_rows.cuh"
#include "kernels/base/launch.cuh"

// A block takes the keys of one split for up to `group` query heads that share them. Each warp has
// keys of its own and keeps its softmax in registers; the warps meet once, at the end.
namespace chunkstate::cuda::step {

/// Puts the block's queries, rotated and scaled, and the rotated new key and the new value (as they
/// read back from the cache) into shared memory, and into the cache if `appends`.
template <int group>
__device__ __forceinline__ void stage_rows(const AttentionStepArgs& args, const Append& append,
                                           const Place& at, std::int64_t position, bool has_new,
                                           float (&query)[group][max_head_dim],
                                           float (&fresh)[2][max_head_dim]) {
  const auto head_dim = static_cast<int>(args.q.extent[2]);
  const int pairs = append.pairs();
  const bool appends = append.has_new();
  const DType k_type = appends ? append.new_k.dtype : args.q.dtype;
  const DType v_type = appends ? append.new_v.dtype : args.q.dtype;
  for (int e = threadIdx.x; e < head_dim; e += step_threads) {
    const int other = partner(e, pairs);
    // All loads are without condition and behind one branch on the type, so that none waits for
    // another: heads beyond the last stand for it, and q for rows that are not there.
    const auto new_k = [&](int i) {
      return appends ? append.new_k.at(at.sequence, at.kv_head, i)
                     : args.q.at(at.sequence, at.head, i);
    };
    const std::byte* const new_v = appends ? append.new_v.at(at.sequence, at.kv_head, e) : new_k(e);
    float frequency = 0.0F, value[group], beside[group], key, key_beside, kept;
    if (e < 2 * pairs) frequency = append.inverse_frequency(e < pairs ? e : e - pairs);
    const auto load = [&](auto q_dtype, auto k_dtype, auto v_dtype) {
#pragma unroll
      for (int h = 0; h < group; ++h) {
        const std::int64_t head = at.head + min(h, at.count - 1);
        value[h] = load_element(args.q.at(at.sequence, head, e), q_dtype);
        beside[h] = load_element(args.q.at(at.sequence, head, other), q_dtype);
      }
      key = load_element(new_k(e), k_dtype);
      key_beside = load_element(new_k(other), k_dtype);
      kept = load_element(new_v, v_dtype);
    };
    if (k_type == args.q.dtype && v_type == args.q.dtype) {
      with_type(args.q.dtype, [&](auto type) { load(type, type, type); });
    } else {
      load(args.q.dtype, k_type, v_type);
    }
    float cosine = 1.0F, sine = 0.0F;
    // As rope does it: precise functions, for angles of 10^5 radians.
    if (e < 2 * pairs) sincosf(static_cast<float>(position) * frequency, &sine, &cosine);
#pragma unroll
    for (int h = 0; h < group; ++h) {
      query[h][e] = rotated(value[h], beside[h], e, pairs, cosine, sine) * (args.scale * log2_e);
    }
    if (!has_new) continue;
    const float turned = rotated(key, key_beside, e, pairs, cosine, sine);
    fresh[0][e] = rounded(append.k.dtype, turned);
    fresh[1][e] = rounded(append.v.dtype, kept);
    if (!at.is_first) continue;
    store_element(append.k.at(at.sequence, position, at.kv_head, e), append.k.dtype, turned);
    store_element(append.v.at(at.sequence, position, at.kv_head, e), append.v.dtype, kept);
  }
}

/// A warp's softmax so far, of its keys: scores are of base 2. A lane's sum is that of its rows.
template <int group>
struct Softmax {
  float maximum[group], sum[group] = {}, output[group][per_lane] = {};

  __device__ Softmax() {
#pragma unroll
    for (int h = 0; h < group; ++h) maximum[h] = -INFINITY;
  }

  /// Turns scores into probabilities relative to the new maximum. At least one key is there.
  template <int lanes, int ahead>
  __device__ __forceinline__ void take(float (&score)[group][ahead], int key, int keys) {
#pragma unroll
    for (int h = 0; h < group; ++h) {
      float highest = maximum[h];
#pragma unroll
      for (int u = 0; u < ahead; ++u) {
        if (key + u * (warp_size / lanes) >= keys) score[h][u] = -INFINITY;
        highest = fmaxf(highest, score[h][u]);
      }
#pragma unroll
      for (int step = lanes; step < warp_size; step *= 2) {
        highest = fmaxf(highest, __shfl_xor_sync(full_warp, highest, step));
      }
      const float kept = exp2f(maximum[h] - highest);
      maximum[h] = highest;
      sum[h] *= kept;
#pragma unroll
      for (int k = 0; k < per_lane; ++k) output[h][k] *= kept;
#pragma unroll
      for (int u = 0; u < ahead; ++u) {
        score[h][u] = exp2f(score[h][u] - highest);
        sum[h] += score[h][u];
      }
    }
  }
};

/// partial: per (sequence, head) of all splits the maximum of the scores and the sum of the
/// probabilities relative to it, then of all splits head_dim unnormalised outputs.
__device__ __forceinline__ float* partial_of(float* partial, std::int64_t row, int splits,
                                             int head_dim) {
  return partial + row * splits * (head_dim + 2);
}

/// What the warps of a block hand each other.
template <int group, int width>
struct Shared {
  float query[group][max_head_dim], fresh[2][max_head_dim];
  float output[step_warps][group][width];
  float maximum[step_warps][group], sum[step_warps][group];
};

/// Adds the rows of a warp and leaves its result.
template <class Rows, int lanes, int group, int width>
__device__ __forceinline__ void leave_softmax(Softmax<group>& softmax, int warp, int lane,
                                              Shared<group, width>& shared) {
#pragma unroll
  for (int h = 0; h < group; ++h) {
#pragma unroll
    for (int step = lanes; step < warp_size; step *= 2) {
      softmax.sum[h] += __shfl_xor_sync(full_warp, softmax.sum[h], step);
#pragma unroll
      for (int e = 0; e < per_lane; ++e) {
        softmax.output[h][e] += __shfl_xor_sync(full_warp, softmax.output[h][e], step);
      }
    }
    if (lane < lanes) {
#pragma unroll
      for (int e = 0; e < per_lane; ++e) {
        shared.output[warp][h][Rows::element(lane, e)] = softmax.output[h][e];
      }
    }
    if (lane == 0) {
      shared.maximum[warp][h] = softmax.maximum[h];
      shared.sum[warp][h] = softmax.sum[h];
    }
  }
}

/// Adds the warps' results. One without keys has the maximum -infinity, hence the weight 0; warp 0
/// always has some.
template <int group, int width>
__device__ __forceinline__ void merge_warps(const AttentionStepArgs& args, const Place& at,
                                            const Shared<group, width>& shared, float* partial,
                                            int splits) {
  const auto head_dim = static_cast<int>(args.q.extent[2]);
#pragma unroll
  for (int h = 0; h < group; ++h) {
    if (h >= at.count) break;
    float maximum = shared.maximum[0][h], weight[step_warps], sum = 0.0F;
#pragma unroll
    for (int w = 1; w < step_warps; ++w) maximum = fmaxf(maximum, shared.maximum[w][h]);
#pragma unroll
    for (int w = 0; w < step_warps; ++w) {
      weight[w] = exp2f(shared.maximum[w][h] - maximum);
      sum += weight[w] * shared.sum[w][h];
    }
    const std::int64_t row = at.sequence * args.q.extent[1] + at.head + h;
    float* const out = partial_of(partial, row, splits, head_dim);
    if (threadIdx.x == 0) {
      out[2 * at.split] = maximum;
      out[2 * at.split + 1] = sum;
    }
    for (int e = threadIdx.x; e < head_dim; e += step_threads) {
      float value = 0.0F;
#pragma unroll
      for (int w = 0; w < step_warps; ++w) value += weight[w] * shared.output[w][h][e];
      out[2 * splits + static_cast<std::int64_t>(at.split) * head_dim + e] = value;
    }
  }
}

template <Storage storage, int lanes, int group>
__global__ void __launch_bounds__(step_threads)
    split_kernel(const __grid_constant__ AttentionStepArgs args,
                 const __grid_constant__ Append append, float* partial, int splits) {
  using Rows = CacheRows<storage, lanes>;
  constexpr int ahead = Rows::ahead, rows_at_once = Rows::rows_at_once;
  constexpr int keys_at_once = step_warps * rows_at_once * ahead;
  static_assert(keys_per_tile % keys_at_once == 0, "a split is whole rounds");
  __shared__ Shared<group, lanes * per_lane> shared;
  const Place at(args, splits, group);
  Rows k_rows(args.k, at.sequence, at.kv_head), v_rows(args.v, at.sequence, at.kv_head);
  prefetch_tile(args, at, k_rows, v_rows);
  wait_for_previous_kernel();
  // Only now: the start of the combining kernel tells it that the lengths are there.
  let_next_kernel_start();
  const std::int64_t length = __ldcg(&args.lengths(at.sequence));
  const std::int64_t first = at.split * keys_of_split(length);
  if (first >= length) return;
  const auto keys = static_cast<int>(min(length - first, keys_of_split(length)));
  const bool has_new = append.has_new() && first + keys == length;
  const int new_key = has_new ? keys - 1 : INT_MAX;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const auto head_dim = static_cast<int>(args.q.extent[2]);

  // The new row is not in the cache yet: what is loaded in its place is replaced.
  k_rows.begin(first, keys);
  v_rows.begin(first, keys);
  typename Rows::Stored k[ahead], v[ahead];
  int base = warp * rows_at_once * ahead;
  k_rows.load(k, base + lane / lanes, lane);
  v_rows.load(v, base + lane / lanes, lane);
  stage_rows<group>(args, append, at, length - 1, has_new, shared.query, shared.fresh);
  __syncthreads();
  float q[group][per_lane];
#pragma unroll
  for (int h = 0; h < group; ++h) {
#pragma unroll
    for (int e = 0; e < per_lane; ++e) {
      const int index = Rows::element(lane, e);
      q[h][e] = index < head_dim ? shared.query[h][index] : 0.0F;
    }
  }
  const auto unpack = [&](const typename Rows::Stored& row, int key, int which,
                          float(&value)[per_lane]) {
    row.unpack(value);
    if (key < new_key) return;  // later ones are no keys, but stand for the last
#pragma unroll
    for (int e = 0; e < per_lane; ++e) {
      const int index = Rows::element(lane, e);
      value[e] = index < head_dim ? shared.fresh[which][index] : 0.0F;
    }
  };

  Softmax<group> softmax;
  for (; base < keys; base += keys_at_once) {
    const int key = base + lane / lanes;
    const bool goes_on = base + keys_at_once < keys;
    float score[group][ahead];
#pragma unroll
    for (int u = 0; u < ahead; ++u) {
      float value[per_lane];
      unpack(k[u], key + u * rows_at_once, 0, value);
#pragma unroll
      for (int h = 0; h < group; ++h) {
        score[h][u] = 0.0F;
#pragma unroll
        for (int e = 0; e < per_lane; ++e) score[h][u] += q[h][e] * value[e];
      }
    }
    if (goes_on) k_rows.load(k, key + keys_at_once, lane);
#pragma unroll
    for (int step = lanes / 2; step > 0; step /= 2) {
#pragma unroll
      for (int h = 0; h < group; ++h) {
#pragma unroll
        for (int u = 0; u < ahead; ++u) {
          score[h][u] += __shfl_xor_sync(full_warp, score[h][u], step);
        }
      }
    }
    softmax.template take<lanes>(score, key, keys);
#pragma unroll
    for (int u = 0; u < ahead; ++u) {
      float value[per_lane];
      unpack(v[u], key + u * rows_at_once, 1, value);
#pragma unroll
      for (int h = 0; h < group; ++h) {
#pragma unroll
        for (int e = 0; e < per_lane; ++e) softmax.output[h][e] += score[h][u] * value[e];
      }
    }
    if (goes_on) v_rows.load(v, key + keys_at_once, lane);
  }

  leave_softmax<Rows, lanes>(softmax, warp, lane, shared);
  __syncthreads();
  merge_warps(args, at, shared, partial, splits);
}

}  // namespace chunkstate::cuda::step
