// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/attention/step_append.cuh"

// What a block of split_kernel works on, and how its warps read keys and values.
namespace chunkstate::cuda::step {

inline constexpr int max_splits = 64;  // of a sequence, so that what combines them stays small
inline constexpr int per_lane = 8;     // elements of a row that a lane holds

/// Keys of a split, whole tiles: by the sequence's length alone.
__host__ __device__ constexpr std::int64_t keys_of_split(std::int64_t length) {
  return length <= 0 ? keys_per_tile
                     : keys_per_tile * ceil_div(length, std::int64_t{keys_per_tile} * max_splits);
}

/// Rows that each lane has on their way at once, for keys and for values: 16 bytes each where the
/// storage type is a constant, half as many rows where a row takes twice the registers.
template <Storage storage, int lanes>
inline constexpr int rows_ahead = lanes == 16 &&
                                          (storage == Storage::bf16 || storage == Storage::fp16)
                                      ? 8
                                      : 4;

/// One sequence's keys or values of one head, after begin() from the split's first on. `lanes`
/// neighbours of a warp share a row: 8 consecutive elements each, or (mixed) every 32nd.
template <Storage storage, int lanes>
struct CacheRows {
  static constexpr int rows_at_once = warp_size / lanes;
  static constexpr int ahead = rows_ahead<storage, lanes>;
  using Stored = StoredElements<per_lane, storage>;

  const std::byte* start;
  std::int64_t row_bytes;
  DType dtype;
  int head_dim, last = 0;  // the split's last key

  __device__ CacheRows(const ConstAnyView<4>& cache, std::int64_t sequence, std::int64_t kv_head)
      : start(cache.at(sequence, 0, kv_head, 0)),
        row_bytes(cache.stride[1] * static_cast<std::int64_t>(bytes_of(cache.dtype))),
        dtype(cache.dtype),
        head_dim(static_cast<int>(cache.extent[3])) {}

  __device__ void begin(std::int64_t first, int keys) {
    start += first * row_bytes;
    last = keys - 1;
  }
  /// Brings the line of a half of the row to L2.
  __device__ void prefetch(std::int64_t key, int half) const {
    const int bytes = head_dim / 2 * static_cast<int>(bytes_of(dtype));
    asm volatile("prefetch.global.L2 [%0];" ::"l"(start + key * row_bytes + half * bytes));
  }
  static __device__ int element(int lane, int k) {
    return storage == Storage::mixed ? lane + k * warp_size : lane % lanes * per_lane + k;
  }
  /// Rows key, key + rows_at_once, ...; in place of those after the split, its last.
  __device__ __forceinline__ void load(Stored (&rows)[ahead], int key, int lane) const {
    if constexpr (storage == Storage::mixed) {
      with_type(dtype, [&](auto type) {
#pragma unroll
        for (int u = 0; u < ahead; ++u) {
          const std::byte* row = start + min(key + u * rows_at_once, last) * row_bytes;
#pragma unroll
          for (int k = 0; k < per_lane; ++k) {
            const int e = element(lane, k);
            const float value = e < head_dim
                                    ? load_element(row + e * static_cast<int>(bytes_of(type)), type)
                                    : 0.0F;
            rows[u].word[k] = __float_as_uint(value);
          }
        }
      });
    } else {
#pragma unroll
      for (int u = 0; u < ahead; ++u) {
        const std::byte* row = start + min(key + u * rows_at_once, last) * row_bytes;
        if (element(lane, 0) < head_dim) {
          rows[u].load(row, element(lane, 0), dtype);
        } else {
          rows[u] = {};
        }
      }
    }
  }
};

/// What a block works on.
struct Place {
  std::int64_t sequence, kv_head, head;  // head: the first of `count` query heads
  int split, count;
  bool is_first;  // of the blocks that share the keys

  __device__ Place(const AttentionStepArgs& args, int splits, int group) {
    const auto kv_heads = static_cast<unsigned>(args.k.extent[2]);
    const auto heads_per_kv = static_cast<unsigned>(args.q.extent[1]) / kv_heads;
    const unsigned groups = (heads_per_kv + group - 1) / group;
    unsigned index = blockIdx.x;
    split = static_cast<int>(index % splits);
    index /= splits;
    const unsigned offset = index % groups * group;
    index /= groups;
    kv_head = index % kv_heads;
    sequence = index / kv_heads;
    head = kv_head * heads_per_kv + offset;
    count = static_cast<int>(min(heads_per_kv - offset, static_cast<unsigned>(group)));
    is_first = offset == 0;
  }
};

/// Brings the first tile of the split to L2, whoever wrote it. `length` may be out of date.
template <class Rows>
__device__ __forceinline__ void prefetch_tile(const AttentionStepArgs& args, const Place& at,
                                              const Rows& k, const Rows& v) {
  static_assert(step_threads == 2 * keys_per_tile, "a thread per half of a row");
  const std::int64_t found = __ldcg(&args.lengths(at.sequence));
  const std::int64_t length = min(max(found, std::int64_t{1}), args.k.extent[1]);
  const std::int64_t key = at.split * keys_of_split(length) + threadIdx.x / 2;
  if (key >= length) return;
  k.prefetch(key, threadIdx.x % 2);
  v.prefetch(key, threadIdx.x % 2);
}

}  // namespace chunkstate::cuda::step
