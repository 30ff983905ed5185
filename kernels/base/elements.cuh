// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/base/dtype.hpp"
#include "kernels/base/view.hpp"

// Elements of any storage type as fp32 registers. The type is a run-time value: its branch is the
// same for the whole grid and taken once per vector, which costs nothing in kernels that wait for
// memory and saves an instantiation per combination of types.
namespace chunkstate {

inline constexpr unsigned full_warp = 0xffffffffU;
inline constexpr int warp_size = 32;

namespace detail {

template <int N>
struct alignas(N * 4 < 16 ? N * 4 : 16) Words {
  std::uint32_t word[N];
};

template <DType dtype>
__device__ __forceinline__ float2 unpack(std::uint32_t pair) {
  if constexpr (dtype == DType::bf16) {
    return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000U)};
  } else {
    return __half22float2(*reinterpret_cast<const __half2*>(&pair));
  }
}

template <DType dtype>
__device__ __forceinline__ std::uint32_t pack(float low, float high) {
  if constexpr (dtype == DType::bf16) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  } else {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  }
}

template <DType dtype, int N>
__device__ __forceinline__ void load_pairs(const std::byte* address, float (&value)[N]) {
  const auto words = *reinterpret_cast<const Words<N / 2>*>(address);
#pragma unroll
  for (int k = 0; k < N / 2; ++k) {
    const float2 pair = unpack<dtype>(words.word[k]);
    value[2 * k] = pair.x;
    value[2 * k + 1] = pair.y;
  }
}

template <DType dtype, int N>
__device__ __forceinline__ void store_pairs(std::byte* address, const float (&value)[N]) {
  Words<N / 2> words;
#pragma unroll
  for (int k = 0; k < N / 2; ++k) words.word[k] = pack<dtype>(value[2 * k], value[2 * k + 1]);
  *reinterpret_cast<Words<N / 2>*>(address) = words;
}

}  // namespace detail

/// N consecutive elements; N is 1, or even with `address` aligned to min(16, N * size) bytes.
template <int N>
__device__ __forceinline__ void load_elements(const std::byte* address, DType dtype,
                                              float (&value)[N]) {
  if (dtype == DType::fp32) {
    if constexpr (N == 1) {
      value[0] = *reinterpret_cast<const float*>(address);
    } else {
      constexpr int step = N < 4 ? N : 4;
#pragma unroll
      for (int k = 0; k < N; k += step) {
        const auto words = *reinterpret_cast<const detail::Words<step>*>(address + 4 * k);
#pragma unroll
        for (int i = 0; i < step; ++i) value[k + i] = __uint_as_float(words.word[i]);
      }
    }
  } else if (dtype == DType::bf16) {
    if constexpr (N == 1) {
      const auto bits = *reinterpret_cast<const std::uint16_t*>(address);
      value[0] = __uint_as_float(static_cast<std::uint32_t>(bits) << 16);
    } else {
      detail::load_pairs<DType::bf16>(address, value);
    }
  } else {
    if constexpr (N == 1) {
      value[0] = __half2float(*reinterpret_cast<const __half*>(address));
    } else {
      detail::load_pairs<DType::fp16>(address, value);
    }
  }
}

/// Rounds to nearest even. The counterpart of load_elements.
template <int N>
__device__ __forceinline__ void store_elements(std::byte* address, DType dtype,
                                               const float (&value)[N]) {
  if (dtype == DType::fp32) {
    if constexpr (N == 1) {
      *reinterpret_cast<float*>(address) = value[0];
    } else {
      constexpr int step = N < 4 ? N : 4;
#pragma unroll
      for (int k = 0; k < N; k += step) {
        detail::Words<step> words;
#pragma unroll
        for (int i = 0; i < step; ++i) words.word[i] = __float_as_uint(value[k + i]);
        *reinterpret_cast<detail::Words<step>*>(address + 4 * k) = words;
      }
    }
  } else if (dtype == DType::bf16) {
    if constexpr (N == 1) {
      *reinterpret_cast<__nv_bfloat16*>(address) = __float2bfloat16_rn(value[0]);
    } else {
      detail::store_pairs<DType::bf16>(address, value);
    }
  } else {
    if constexpr (N == 1) {
      *reinterpret_cast<__half*>(address) = __float2half_rn(value[0]);
    } else {
      detail::store_pairs<DType::fp16>(address, value);
    }
  }
}

/// body(type) with the storage type as a constant. Where several loads must be on their way before
/// the first is used: with a branch on the type in each, a load waits for the one before it.
template <class Body>
__device__ __forceinline__ void with_type(DType dtype, Body&& body) {
  if (dtype == DType::fp32) {
    body(std::integral_constant<DType, DType::fp32>());
  } else if (dtype == DType::bf16) {
    body(std::integral_constant<DType, DType::bf16>());
  } else {
    body(std::integral_constant<DType, DType::fp16>());
  }
}

__device__ __forceinline__ float load_element(const std::byte* address, DType dtype) {
  float value[1];
  load_elements(address, dtype, value);
  return value[0];
}

__device__ __forceinline__ void store_element(std::byte* address, DType dtype, float value) {
  store_elements(address, dtype, {value});
}

/// What store_element and load_element make of a value.
__device__ __forceinline__ float rounded(DType dtype, float value) {
  if (dtype == DType::bf16) return __bfloat162float(__float2bfloat16_rn(value));
  if (dtype == DType::fp16) return __half2float(__float2half_rn(value));
  return value;
}

/// The storage type of all arrays of a call, where they share one.
enum class Storage : std::uint8_t { fp32, bf16, fp16, mixed };

/// A constant unless the call is mixed.
template <Storage storage>
__device__ __forceinline__ DType type_of(DType found) {
  if constexpr (storage == Storage::fp32) return DType::fp32;
  if constexpr (storage == Storage::bf16) return DType::bf16;
  if constexpr (storage == Storage::fp16) return DType::fp16;
  return found;
}

/// N elements as they lie in memory, so that many loads can be on their way in few registers; as
/// fp32 where the storage type is not a constant of 16 bits. Alignment as for load_elements.
template <int N, Storage storage>
struct StoredElements {
  static constexpr bool packed = N > 1 && (storage == Storage::bf16 || storage == Storage::fp16);
  static constexpr int words = packed ? N / 2 : N;
  std::uint32_t word[words];

  __device__ __forceinline__ void load(const std::byte* address, DType dtype) {
    if constexpr (packed) {
      const auto loaded = *reinterpret_cast<const detail::Words<words>*>(address);
#pragma unroll
      for (int k = 0; k < words; ++k) word[k] = loaded.word[k];
    } else {
      float value[N];
      load_elements(address, type_of<storage>(dtype), value);
#pragma unroll
      for (int k = 0; k < N; ++k) word[k] = __float_as_uint(value[k]);
    }
  }

  /// From element `index` on of a row without gaps.
  __device__ __forceinline__ void load(const std::byte* row, int index, DType dtype) {
    const DType type = type_of<storage>(dtype);
    load(row + static_cast<std::int64_t>(index) * (type == DType::fp32 ? 4 : 2), type);
  }

  __device__ __forceinline__ void unpack(float (&value)[N]) const {
#pragma unroll
    for (int k = 0; k < words; ++k) {
      if constexpr (packed) {
        constexpr DType dtype = storage == Storage::bf16 ? DType::bf16 : DType::fp16;
        const float2 pair = detail::unpack<dtype>(word[k]);
        value[2 * k] = pair.x;
        value[2 * k + 1] = pair.y;
      } else {
        value[k] = __uint_as_float(word[k]);
      }
    }
  }
};

template <class First, class... Views>
Storage storage_of(const First& first, const Views&... views) {
  const bool one = ((!views || views.dtype == first.dtype) && ...);
  if (!one) return Storage::mixed;
  return first.dtype == DType::fp32   ? Storage::fp32
         : first.dtype == DType::bf16 ? Storage::bf16
                                      : Storage::fp16;
}

/// Calls `launch` with <N, storage>: N elements at a time if `vectors`, else one by one.
template <int N, class Launch>
void with_storage(bool vectors, Storage storage, Launch launch) {
  if (!vectors) return launch.template operator()<1, Storage::mixed>();
  switch (storage) {
    case Storage::fp32:
      return launch.template operator()<N, Storage::fp32>();
    case Storage::bf16:
      return launch.template operator()<N, Storage::bf16>();
    case Storage::fp16:
      return launch.template operator()<N, Storage::fp16>();
    case Storage::mixed:
      return launch.template operator()<N, Storage::mixed>();
  }
}

/// Whether rows of `view` can be read N elements at a time: length, strides and address allow it.
template <int N, class Byte, int Rank>
bool allows_vectors(const BasicAnyView<Byte, Rank>& view) {
  if (!view) return true;
  const auto bytes = static_cast<std::int64_t>(bytes_of(view.dtype));
  const std::int64_t alignment = N * bytes < 16 ? N * bytes : 16;
  bool fits = reinterpret_cast<std::uintptr_t>(view.data) % alignment == 0 &&
              view.extent[Rank - 1] % N == 0;
  for (int d = 0; d < Rank - 1; ++d) {
    fits = fits && (view.extent[d] <= 1 || view.stride[d] * bytes % alignment == 0);
  }
  return fits;
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Launches over [rows, channels] with N channels per thread. One grid dimension, because the others
// end at 65535.
inline constexpr int row_threads = 128;

inline unsigned row_blocks(std::int64_t rows, std::int64_t channels, int n) {
  return static_cast<unsigned>(rows * ceil_div(channels, row_threads * n));
}

struct RowPosition {
  std::int64_t row;
  std::int64_t channel;  // may lie beyond the last one
};

template <int N>
__device__ __forceinline__ RowPosition row_position(std::int64_t channels) {
  const auto blocks = static_cast<unsigned>(ceil_div(channels, row_threads * N));
  return {blockIdx.x / blocks,
          (static_cast<std::int64_t>(blockIdx.x % blocks) * row_threads + threadIdx.x) * N};
}

/// Threads of a block that works on one row, N elements at a time: whole warps, at most 512.
inline unsigned threads_per_row(std::int64_t channels, int n) {
  const std::int64_t warps = ceil_div(ceil_div(channels, n), warp_size);
  return static_cast<unsigned>((warps < 16 ? warps : 16) * warp_size);
}

/// To 1e-6: the exact division alone would take longer than the memory that elementwise kernels
/// wait for.
__device__ __forceinline__ float silu(float value) {
  return __fdividef(value, 1.0F + __expf(-value));
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int offset = warp_size / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(full_warp, value, offset);
  }
  return value;
}

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int offset = warp_size / 2; offset > 0; offset /= 2) {
    value = fmaxf(value, __shfl_xor_sync(full_warp, value, offset));
  }
  return value;
}

/// The sum over the block's threads, in an order that depends on their number alone. Called once
/// per kernel by all threads of whole warps.
__device__ __forceinline__ float block_sum(float value) {
  __shared__ float partial[warp_size];
  value = warp_sum(value);
  if (threadIdx.x % warp_size == 0) partial[threadIdx.x / warp_size] = value;
  __syncthreads();
  float sum = 0.0F;
  for (unsigned w = 0; w < blockDim.x / warp_size; ++w) sum += partial[w];
  return sum;
}

}  // namespace chunkstate
