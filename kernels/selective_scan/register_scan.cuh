// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/base/elements.cuh"
#include "kernels/base/tensor_core.cuh"
#include "kernels/selective_scan/selective_scan.hpp"

// The scan with its states in registers. A block owns some channels of one sequence (and of one
// chunk, in variant chunked) and walks through the tokens in tiles of 16. While a tile is computed,
// the next one's x, dt, z, B and C are on their way to shared memory, as they are stored. Of a tile
//
//   1. all threads make step sizes and delta x, and widen B and C, element by element;
//   2. each thread advances its states and leaves y, which no other thread needs before 3;
//   3. all threads add D x, apply the gate and store y, whole rows at a time.
//
// What bounds it are exponentials, one per token, channel and state element: a multiprocessor makes
// 16 per clock, so at state_dim 16 a token of a channel takes a clock (kernels/README.md).
namespace chunkstate::cuda::register_scan {

inline constexpr int threads = 128;
inline constexpr int tile = 16;
inline constexpr float log2_e = 1.44269504088896341F;

/// How a block's threads share out channels and states.
template <int channels_, int states_, int lanes_>
struct Split {
  static constexpr int channels = channels_;  // of a thread
  static constexpr int states = states_;      // of each of these channels, in this thread
  static constexpr int lanes = lanes_;        // neighbouring threads that share a channel
  static constexpr int width = threads / lanes * channels;  // channels of the block
  static constexpr int state_dim = states * lanes;          // at most, the rest is zero
  static constexpr int quads = width / 4;
  // A thread keeps its four channels from row to row in 1. and 3.
  static_assert(width % 8 == 0 && threads % quads == 0 && states % 4 == 0);
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
  bool vectors;       // rows of all arrays can be read 16 bytes at a time
};

template <class S>
struct alignas(16) Shared {
  // Rows as they are stored, 4 bytes per element at most; two tiles.
  alignas(16) std::byte x[2][tile][S::width * 4];
  alignas(16) std::byte dt[2][tile][S::width * 4];
  alignas(16) std::byte z[2][tile][S::width * 4];
  alignas(16) std::byte B_stored[2][tile][S::state_dim * 4];
  alignas(16) std::byte C_stored[2][tile][S::state_dim * 4];
  alignas(16) float delta[tile][S::width];
  alignas(16) float written[tile][S::width];  // delta x
  alignas(16) float y[tile][S::width];
  alignas(16) float B[tile][S::state_dim];
  alignas(16) float C[tile][S::state_dim];
};

/// 2^v, 0 for very negative v.
__device__ __forceinline__ float exp2_fast(float v) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(v));
  return result;
}

__device__ __forceinline__ float silu_fast(float v) {
  return __fdividef(v, 1.0F + exp2_fast(-log2_e * v));
}

__device__ __forceinline__ float softplus(float v) {
  return v > 20.0F ? v : log1pf(exp2_fast(log2_e * v));
}

/// Starts copying `rows` rows of a tile, from token `first` and column `column` on. Columns beyond
/// the view's last one stay as they are.
template <int width>
__device__ __forceinline__ void stage(std::byte (&target)[tile][width * 4],
                                      const ConstAnyView<3>& view, std::int64_t sequence,
                                      std::int64_t first, int rows, std::int64_t column,
                                      bool vectors) {
  if (view.data == nullptr) return;
  const int size = static_cast<int>(bytes_of(view.dtype));
  const auto columns = static_cast<int>(min(view.extent[2] - column, std::int64_t{width}));
  if (vectors) {
    const int pieces = width * size / 16;  // of a full row
    for (int i = threadIdx.x; i < rows * pieces; i += threads) {
      const int row = i / pieces, offset = i % pieces * 16;
      if (offset >= columns * size) continue;
      copy_async_16(shared_address(&target[row][offset]),
                    view.at(sequence, first + row, column) + offset, true);
    }
    return;
  }
  for (int i = threadIdx.x; i < rows * width; i += threads) {
    const int row = i / width, c = i % width;
    if (c >= columns) continue;
    const std::byte* const from = view.at(sequence, first + row, column + c);
    std::byte* const to = &target[row][c * size];
    if (size == 4) {
      *reinterpret_cast<std::uint32_t*>(to) = *reinterpret_cast<const std::uint32_t*>(from);
    } else {
      *reinterpret_cast<std::uint16_t*>(to) = *reinterpret_cast<const std::uint16_t*>(from);
    }
  }
}

/// Widens a tile of B or C; zeros beyond its rows and state_dim.
template <int width>
__device__ __forceinline__ void widen(float (&target)[tile][width],
                                      const std::byte (&stored)[tile][width * 4], DType dtype,
                                      int rows, int state_dim) {
  const int size = static_cast<int>(bytes_of(dtype));
  for (int i = threadIdx.x; i < tile * width; i += threads) {
    const int row = i / width, n = i % width;
    const bool inside = row < rows && n < state_dim;
    target[row][n] = inside ? load_element(&stored[row][n * size], dtype) : 0.0F;
  }
}

/// N floats of an aligned row in shared memory.
template <int N>
__device__ __forceinline__ void load_shared(const float* address, float (&value)[N]) {
  load_elements(reinterpret_cast<const std::byte*>(address), DType::fp32, value);
}

/// The four channels that a thread looks after in the elementwise steps.
template <class S>
struct Quad {
  int column;           // the first one's, in the block
  int first_row, rows;  // rows first_row, first_row + rows, ...
  int inside;           // how many of the four exist
  float bias[4], D[4];

  __device__ Quad(const SelectiveScanArgs& args, std::int64_t first_channel) {
    column = static_cast<int>(threadIdx.x) % S::quads * 4;
    first_row = static_cast<int>(threadIdx.x) / S::quads;
    rows = threads / S::quads;
    const std::int64_t left = args.x.extent[2] - first_channel - column;
    inside = static_cast<int>(max(min(left, std::int64_t{4}), std::int64_t{0}));
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const bool exists = k < inside;
      const std::int64_t d = first_channel + column + k;
      bias[k] = exists && args.dt_bias.data != nullptr ? args.dt_bias(d) : 0.0F;
      D[k] = exists && args.D.data != nullptr ? args.D(d) : 0.0F;
    }
  }
};

/// Step 1 for x and dt. Rows beyond the tile's last one write nothing and decay nothing.
template <class S>
__device__ __forceinline__ void make_steps(Shared<S>& shared, const SelectiveScanArgs& args,
                                           const Quad<S>& quad, int buffer, int rows) {
  const int x_size = static_cast<int>(bytes_of(args.x.dtype));
  const int dt_size = static_cast<int>(bytes_of(args.dt.dtype));
  for (int row = quad.first_row; row < tile; row += quad.rows) {
    float delta[4] = {}, written[4] = {};
    if (row < rows) {
      float x[4], dt[4];
      load_elements(&shared.x[buffer][row][quad.column * x_size], args.x.dtype, x);
      load_elements(&shared.dt[buffer][row][quad.column * dt_size], args.dt.dtype, dt);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const float v = dt[k] + quad.bias[k];
        // What lies beyond the last channel is whatever shared memory held.
        if (k < quad.inside) {
          delta[k] = args.softplus ? softplus(v) : v;
          written[k] = delta[k] * x[k];
        }
      }
    }
    store_elements(reinterpret_cast<std::byte*>(&shared.delta[row][quad.column]), DType::fp32,
                   delta);
    store_elements(reinterpret_cast<std::byte*>(&shared.written[row][quad.column]), DType::fp32,
                   written);
  }
}

/// Step 3.
template <class S>
__device__ __forceinline__ void store_outputs(Shared<S>& shared, const Pass& pass,
                                              const Quad<S>& quad, int buffer, int rows,
                                              std::int64_t sequence, std::int64_t first_token,
                                              std::int64_t first_channel) {
  const SelectiveScanArgs& args = pass.args;
  const int x_size = static_cast<int>(bytes_of(args.x.dtype));
  const int z_size = static_cast<int>(bytes_of(args.z.dtype));
  for (int row = quad.first_row; row < rows; row += quad.rows) {
    float y[4], x[4];
    load_shared(&shared.y[row][quad.column], y);
    load_elements(&shared.x[buffer][row][quad.column * x_size], args.x.dtype, x);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (args.D.data != nullptr) y[k] += quad.D[k] * x[k];
    }
    if (args.z.data != nullptr) {
      float z[4];
      load_elements(&shared.z[buffer][row][quad.column * z_size], args.z.dtype, z);
#pragma unroll
      for (int k = 0; k < 4; ++k) y[k] *= silu_fast(z[k]);
    }
    std::byte* const target = args.y.at(sequence, first_token + row, first_channel + quad.column);
    const auto size = static_cast<std::int64_t>(bytes_of(args.y.dtype));
    if (pass.vectors && quad.inside == 4) {
      store_elements(target, args.y.dtype, y);
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (k < quad.inside) store_element(target + k * size, args.y.dtype, y[k]);
      }
    }
  }
}

/// A thread's part of the states of its block.
template <class S>
struct States {
  float h[S::channels][S::states];
  float rate[S::channels][S::states];  // A log2(e)
  float delta_sum[S::channels];
  std::int64_t first_channel;  // of this thread
  int column;                  // the same in the block
  int first_state;

  /// Calls visit(channel, n, k, s) for the elements that exist.
  template <class Visit>
  __device__ __forceinline__ void for_each(const SelectiveScanArgs& args, Visit visit) {
#pragma unroll
    for (int k = 0; k < S::channels; ++k) {
#pragma unroll
      for (int s = 0; s < S::states; ++s) {
        const std::int64_t d = first_channel + k, n = first_state + s;
        if (d < args.x.extent[2] && n < args.B.extent[2]) visit(d, n, k, s);
      }
    }
  }

  __device__ States(const SelectiveScanArgs& args, std::int64_t block_channel)
      : h{}, rate{}, delta_sum{} {
    column = static_cast<int>(threadIdx.x) / S::lanes * S::channels;
    first_channel = block_channel + column;
    first_state = static_cast<int>(threadIdx.x) % S::lanes * S::states;
    for_each(args, [&](std::int64_t d, std::int64_t n, int k, int s) {
      rate[k][s] = log2_e * args.A(d, n);
    });
  }

  /// Step 2. Every row of the tile, so that the loop has a fixed length.
  template <bool ends>
  __device__ __forceinline__ void advance(Shared<S>& shared) {
#pragma unroll 2
    for (int row = 0; row < tile; ++row) {
      float delta[S::channels], written[S::channels], y[S::channels] = {};
      float b[S::states], c[S::states];
      load_shared(&shared.delta[row][column], delta);
      load_shared(&shared.written[row][column], written);
      load_shared(&shared.B[row][first_state], b);
      if constexpr (!ends) load_shared(&shared.C[row][first_state], c);
#pragma unroll
      for (int k = 0; k < S::channels; ++k) {
#pragma unroll
        for (int s = 0; s < S::states; ++s) {
          h[k][s] = exp2_fast(delta[k] * rate[k][s]) * h[k][s] + written[k] * b[s];
          if constexpr (!ends) y[k] += c[s] * h[k][s];
        }
      }
      if constexpr (ends) {
#pragma unroll
        for (int k = 0; k < S::channels; ++k) delta_sum[k] += delta[k];
      } else {
#pragma unroll
        for (int k = 0; k < S::channels; ++k) {
#pragma unroll
          for (int offset = S::lanes / 2; offset > 0; offset /= 2) {
            y[k] += __shfl_xor_sync(full_warp, y[k], offset);
          }
          if (first_state == 0) shared.y[row][column + k] = y[k];
        }
      }
    }
  }
};

}  // namespace chunkstate::cuda::register_scan
