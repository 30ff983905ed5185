// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/base/elements.cuh"
#include "kernels/selective_scan/selective_scan.hpp"

// The scan with its states in registers. A block owns some channels of one sequence (and of one
// chunk, in variant chunked); `lanes` neighbouring threads share a channel's states. A block walks
// through the tokens in tiles, and of a tile
//
//   1. each thread reads x, dt and z of its channel for its own `items` tokens, one tile ahead, in
//      registers, and makes step sizes and delta x of them: nothing is computed twice;
//   2. its lanes hand each other these two, and each advances its part of the states;
//   3. the parts of y are summed so that each thread ends with those of its own tokens, to which it
//      adds D x, applies the gate and stores.
//
// Only B and C, which all channels share, pass through shared memory: one barrier per tile. The
// code of a tile is one straight line without branches that depend on the thread, so that the
// exponentials of many tokens, which do not wait for the state, are on their way together.
namespace chunkstate::cuda::register_scan {

inline constexpr int threads = 128;
inline constexpr float log2_e = 1.44269504088896341F;

/// How a block's threads share out channels, states and tokens.
template <int states_, int lanes_, int items_>
struct Split {
  static constexpr int states = states_;            // of a channel, in this thread
  static constexpr int lanes = lanes_;              // neighbouring threads that share a channel
  static constexpr int items = items_;              // tokens of a tile that a thread prepares
  static constexpr int tile = items * lanes;        // tokens
  static constexpr int width = threads / lanes;     // channels of the block
  static constexpr int state_dim = states * lanes;  // at most, the rest is zero
  static constexpr int pieces = tile * state_dim / threads;  // of a tile of B, for each thread
  static_assert(states % 4 == 0 && warp_size % lanes == 0 && tile * state_dim % threads == 0);
};

/// What a launch does. Chunked: the launch `ends` writes each chunk's end state from zero to
/// `states` and the sums of its step sizes to `delta_sums`, passing_kernel turns the end states
/// into start states, and the launch that follows starts from them.
struct Pass {
  SelectiveScanArgs args;
  std::int64_t chunk_tokens;
  std::int64_t chunks;
  float* states;      // [batch, chunks, channels, state_dim]; nullptr: one chunk, from args.state
  float* delta_sums;  // [batch, chunks, channels]
};

template <class S>
struct Shared {
  alignas(16) float B[2][S::tile][S::state_dim];
  alignas(16) float C[2][S::tile][S::state_dim];
};

/// 2^v, 0 for very negative v.
__device__ __forceinline__ float exp2_fast(float v) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(v));
  return result;
}

/// 1 / v, 0 for infinity. A division by __fdividef would take four instructions more.
__device__ __forceinline__ float reciprocal(float v) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(v));
  return result;
}

__device__ __forceinline__ float silu_fast(float v) {
  return v * reciprocal(1.0F + exp2_fast(-log2_e * v));
}

/// max(v, 0) + log(1 + u) with u = e^-|v| in [0, 1]. log(1 + u) / u is interpolated at eight
/// Chebyshev nodes, to 3.2e-7 in fp32 also where u is small, which a logarithm of 1 + u is not.
__device__ __forceinline__ float softplus(float v) {
  const float u = exp2_fast(-log2_e * fabsf(v));
  float series = -0.00837115291506052F;
  series = series * u + 0.04349390044808388F;
  series = series * u - 0.10685002803802490F;
  series = series * u + 0.17687477171421051F;
  series = series * u - 0.24474774301052094F;
  series = series * u + 0.33271929621696472F;
  series = series * u - 0.49997174739837646F;
  series = series * u + 0.99999976158142090F;
  return fmaxf(v, 0.0F) + u * series;
}

/// One element as it is stored.
__device__ __forceinline__ std::uint32_t load_stored(const std::byte* address, bool wide) {
  if (wide) return *reinterpret_cast<const std::uint32_t*>(address);
  return *reinterpret_cast<const std::uint16_t*>(address);
}

template <DType dtype>
__device__ __forceinline__ float widen(std::uint32_t stored) {
  if constexpr (dtype == DType::fp32) return __uint_as_float(stored);
  if constexpr (dtype == DType::bf16) return __uint_as_float(stored << 16);
  return __half2float(__ushort_as_half(static_cast<unsigned short>(stored)));
}

/// Elements as they are stored: loads that nothing waits for until they are widened.
template <int N>
struct Stored {
  std::uint32_t word[N];

  __device__ __forceinline__ void widen_to(float (&value)[N], DType dtype) const {
    with_type(dtype, [&](auto type) {
#pragma unroll
      for (int i = 0; i < N; ++i) value[i] = widen<type.value>(word[i]);
    });
  }
};

/// Bytes from token to token. In 32 bits (selective_scan checks it), so that an address is one
/// instruction; in 64 it is five, of 77 that a token costs.
template <class Byte>
__device__ __forceinline__ int token_bytes(const BasicAnyView<Byte, 3>& view) {
  return static_cast<int>(view.stride[1]) * static_cast<int>(bytes_of(view.dtype));
}

template <class Byte>
__device__ __forceinline__ Byte* token_address(Byte* data, int token, int step) {
  return data + static_cast<std::int64_t>(token) * step;
}

/// One channel of one of the arrays, from the first token of the block's chunk on.
struct Column {
  const std::byte* data;  // nullptr: not given
  int step;               // token_bytes
  bool wide;              // elements of 4 bytes

  __device__ Column(const ConstAnyView<3>& view, std::int64_t sequence, std::int64_t token,
                    std::int64_t channel)
      : data(view.data == nullptr ? nullptr : view.at(sequence, token, channel)),
        step(token_bytes(view)),
        wide(view.dtype == DType::fp32) {}

  /// The tokens first + i lanes, the last one in place of those beyond.
  template <class S>
  __device__ __forceinline__ void load(Stored<S::items>& stored, int first, int last) const {
    if (data == nullptr) return;
#pragma unroll
    for (int i = 0; i < S::items; ++i) {
      stored.word[i] =
          load_stored(token_address(data, min(first + i * S::lanes, last), step), wide);
    }
  }
};

/// This thread's share of the tiles of B or C.
template <class S>
struct Rows {
  const std::byte* data;
  int step;
  DType dtype;
  int row, column;  // of the first piece; the next ones follow threads / state_dim rows later
  bool inside;

  __device__ Rows(const ConstAnyView<3>& view, std::int64_t sequence, std::int64_t token)
      : step(token_bytes(view)),
        dtype(view.dtype),
        row(static_cast<int>(threadIdx.x) / S::state_dim),
        column(static_cast<int>(threadIdx.x) % S::state_dim),
        inside(column < view.extent[2]) {
    data = view.at(sequence, token, inside ? column : 0);
  }

  __device__ __forceinline__ void load(Stored<S::pieces>& stored, int first, int last) const {
#pragma unroll
    for (int i = 0; i < S::pieces; ++i) {
      const int token = min(first + row + i * (threads / S::state_dim), last);
      stored.word[i] = load_stored(token_address(data, token, step), dtype == DType::fp32);
    }
  }

  __device__ __forceinline__ void keep(const Stored<S::pieces>& stored,
                                       float (&target)[S::tile][S::state_dim]) const {
    float value[S::pieces];
    stored.widen_to(value, dtype);
#pragma unroll
    for (int i = 0; i < S::pieces; ++i) {
      target[row + i * (threads / S::state_dim)][column] = inside ? value[i] : 0.0F;
    }
  }
};

/// condition ? a : b, never as a branch: the compiler would repeat the shuffles on both sides of
/// it.
__device__ __forceinline__ float select(int condition, float a, float b) {
  float result;
  asm("{\n .reg .pred p;\n setp.ne.s32 p, %1, 0;\n selp.f32 %0, %2, %3, p;\n}"
      : "=f"(result)
      : "r"(condition), "f"(a), "f"(b));
  return result;
}

/// The sums over a channel's lanes of y[0], ..., y[lanes - 1]: lane l gets the l-th.
template <int lanes>
__device__ __forceinline__ float scatter_sum(float (&y)[lanes], int lane) {
#pragma unroll
  for (int half = lanes / 2; half > 0; half /= 2) {
    const int upper = lane & half;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float kept = select(upper, y[i + half], y[i]);
      const float given = select(upper, y[i], y[i + half]);
      y[i] = kept + __shfl_xor_sync(full_warp, given, half);
    }
  }
  return y[0];
}

/// A thread's part of the states of its channel.
template <class S>
struct States {
  float h[S::states] = {};
  float rate[S::states] = {};  // A log2(e)
  float delta_sum = 0.0F;
  std::int64_t channel;
  int lane;
  int first_state;
  bool exists;

  /// Calls visit(n, s) for the elements that exist.
  template <class Visit>
  __device__ __forceinline__ void for_each(const SelectiveScanArgs& args, Visit visit) {
#pragma unroll
    for (int s = 0; s < S::states; ++s) {
      if (exists && first_state + s < args.B.extent[2]) {
        visit(static_cast<std::int64_t>(first_state + s), s);
      }
    }
  }

  __device__ States(const SelectiveScanArgs& args, std::int64_t block_channel)
      : channel(block_channel + threadIdx.x / S::lanes),
        lane(static_cast<int>(threadIdx.x) % S::lanes),
        first_state(lane * S::states),
        exists(channel < args.x.extent[2]) {
    for_each(args, [&](std::int64_t n, int s) { rate[s] = log2_e * args.A(channel, n); });
  }

  /// Steps 2 and 3 up to the sums: a tile of tokens, of which this thread made delta and written
  /// (delta x) of every lanes-th.
  template <bool ends>
  __device__ __forceinline__ void advance(const Shared<S>& shared, int buffer,
                                          const float (&delta)[S::items],
                                          const float (&written)[S::items], float (&y)[S::items]) {
#pragma unroll
    for (int i = 0; i < S::items; ++i) {
      float parts[S::lanes];
#pragma unroll
      for (int j = 0; j < S::lanes; ++j) {
        const int row = i * S::lanes + j;
        const float step = __shfl_sync(full_warp, delta[i], j, S::lanes);
        const float input = __shfl_sync(full_warp, written[i], j, S::lanes);
        float b[S::states], c[S::states];
        load_row(&shared.B[buffer][row][first_state], b);
        if constexpr (!ends) load_row(&shared.C[buffer][row][first_state], c);
        float sums[2] = {};
#pragma unroll
        for (int s = 0; s < S::states; ++s) {
          h[s] = exp2_fast(step * rate[s]) * h[s] + input * b[s];
          if constexpr (!ends) sums[s % 2] += c[s] * h[s];
        }
        parts[j] = sums[0] + sums[1];
        if constexpr (ends) delta_sum += step;
      }
      if constexpr (!ends) y[i] = scatter_sum<S::lanes>(parts, lane);
    }
  }

 private:
  static __device__ __forceinline__ void load_row(const float* row, float (&value)[S::states]) {
    load_elements(reinterpret_cast<const std::byte*>(row), DType::fp32, value);
  }
};

}  // namespace chunkstate::cuda::register_scan
