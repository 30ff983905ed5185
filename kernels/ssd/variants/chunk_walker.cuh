// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/base/elements.cuh"
#include "kernels/ssd/scan_common.cuh"

// One block per head and slice of head_dim walks over the tokens in rounds, with the slice's state
// in shared memory. A round of at most `side` tokens is computed in the chunk form: with lambda the
// sum of delta A from the round's start,
//
//   y_i = exp(lambda_i) S C_i + sum_j<=i (C_i B_j) exp(lambda_i - lambda_j) delta_j x_j + D x_i
//   S   = exp(lambda_last) S + sum_j exp(lambda_last - lambda_j) delta_j x_j B_j^T
namespace chunkstate::cuda::chunk_walker {

constexpr int threads = 256;
// A thread's outputs lie at (threadIdx / lanes + lanes i, threadIdx % lanes + lanes j).
constexpr int lanes = 16;

/// Shared memory of a block. Rows of state_dim are padded to a multiple of 4 plus 4 floats: 16 rows
/// read as vectors of four then fall into different banks.
template <int side>
struct Tiles {
  int pitch;
  float *B, *C, *state;        // [side][pitch]; state: rows are elements of head_dim
  float *x, *weighted, *gate;  // [side][side + 4]: x_j, x_j times its factor in the new state, M_ij
  float *lambda, *delta;       // [side]

  static constexpr int small_pitch = side + 4;
  __host__ __device__ static int pitch_of(std::int64_t state_dim) {
    return static_cast<int>(ceil_div(state_dim, 4) * 4 + 4);
  }
  __host__ __device__ static std::int64_t bytes(std::int64_t state_dim) {
    return (3 * side * std::int64_t{pitch_of(state_dim)} + 3 * side * small_pitch + 2 * side) * 4;
  }
  __device__ Tiles(float* memory, std::int64_t state_dim) : pitch(pitch_of(state_dim)) {
    B = memory;
    C = B + side * pitch;
    state = C + side * pitch;
    x = state + side * pitch;
    weighted = x + side * small_pitch;
    gate = weighted + side * small_pitch;
    lambda = gate + side * small_pitch;
    delta = lambda + side;
  }
};

/// Rows [token, token + count) of `view` at `second`, columns [column, column + width), zeros
/// around.
template <int side>
__device__ __forceinline__ void load_rows(float* shared, int pitch, const ConstAnyView<3>& view,
                                          std::int64_t token, int count, std::int64_t second,
                                          std::int64_t column, int width, bool vectors) {
  const std::int64_t columns = view.extent[2];
  const int quads = width / 4;
  for (int index = threadIdx.x; index < side * quads; index += threads) {
    const int row = index / quads;
    const int c = index % quads * 4;
    float value[4] = {};
    if (row < count) {
      if (vectors) {
        if (column + c < columns) {
          load_elements(view.at(token + row, second, column + c), view.dtype, value);
        }
      } else {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          if (column + c + e < columns) {
            value[e] = load_element(view.at(token + row, second, column + c + e), view.dtype);
          }
        }
      }
    }
    *reinterpret_cast<float4*>(&shared[row * pitch + c]) =
        make_float4(value[0], value[1], value[2], value[3]);
  }
}

/// sum[i][j] += a row (i) . b row (j) over `extent` elements, a multiple of 4.
template <int patch>
__device__ __forceinline__ void dot_rows(float (&sum)[patch][patch], const float* a, const float* b,
                                         int pitch, int extent) {
  const int row = static_cast<int>(threadIdx.x) / lanes;
  const int column = static_cast<int>(threadIdx.x) % lanes;
  for (int k = 0; k < extent; k += 4) {
    float4 a4[patch], b4[patch];
#pragma unroll
    for (int i = 0; i < patch; ++i) {
      a4[i] = *reinterpret_cast<const float4*>(&a[(row + i * lanes) * pitch + k]);
      b4[i] = *reinterpret_cast<const float4*>(&b[(column + i * lanes) * pitch + k]);
    }
#pragma unroll
    for (int i = 0; i < patch; ++i) {
#pragma unroll
      for (int j = 0; j < patch; ++j) {
        sum[i][j] += a4[i].x * b4[j].x + a4[i].y * b4[j].y + a4[i].z * b4[j].z + a4[i].w * b4[j].w;
      }
    }
  }
}

/// A block's place: its head and its slice of head_dim.
struct Place {
  std::int64_t head, group, p;
};

template <int side>
class Walker {
 public:
  __device__ Walker(const SsdArgs& args, bool vectors, const Place& place, float* memory)
      : args_(args), vectors_(vectors), place_(place), tiles_(memory, args_.B.extent[2]) {}

  /// Elements of the state, which every function below visits by the same thread.
  template <class Visit>
  __device__ void for_each_state(Visit visit) {
    const std::int64_t state_dim = args_.B.extent[2];
    const auto width = static_cast<int>(ceil_div(state_dim, 4) * 4);
    for (int index = threadIdx.x; index < side * width; index += threads) {
      const int p = index / width;
      const int n = index % width;
      const bool inside = place_.p + p < args_.x.extent[2] && n < state_dim;
      visit(tiles_.state[p * tiles_.pitch + n], inside, place_.p + p, n);
    }
  }

  /// Runs tokens [begin, end) of one chunk. Without `outputs` only the state moves. Returns the sum
  /// of delta A over them.
  __device__ float run(std::int64_t begin, std::int64_t end, bool outputs) {
    float total = 0.0F;
    for (std::int64_t t = begin; t < end; t += side) {
      const int count = static_cast<int>(min(end - t, std::int64_t{side}));
      load(t, count, outputs);
      total += tiles_.lambda[side - 1];
      if (outputs) {
        make_gate();
        __syncthreads();
        write_outputs(t, count);
      }
      __syncthreads();  // the outputs have read the state
      advance_state();
      __syncthreads();
    }
    return total;
  }

 private:
  static constexpr int patch = side / lanes;

  __device__ void load(std::int64_t t, int count, bool outputs) {
    const auto width = static_cast<int>(ceil_div(args_.B.extent[2], 4) * 4);
    if (threadIdx.x < warp_size) make_decays(t, count);
    load_rows<side>(tiles_.B, tiles_.pitch, args_.B, t, count, place_.group, 0, width, vectors_);
    if (outputs) {
      load_rows<side>(tiles_.C, tiles_.pitch, args_.C, t, count, place_.group, 0, width, vectors_);
    }
    load_rows<side>(tiles_.x, Tiles<side>::small_pitch, args_.x, t, count, place_.head, place_.p,
                    side, vectors_);
    __syncthreads();
    for (int index = threadIdx.x; index < side * side; index += threads) {
      const int j = index / side;
      const int offset = j * Tiles<side>::small_pitch + index % side;
      const float factor = expf(tiles_.lambda[side - 1] - tiles_.lambda[j]) * tiles_.delta[j];
      tiles_.weighted[offset] = factor * tiles_.x[offset];
    }
  }

  /// One warp. Tokens beyond `count` get delta = 0: they neither write nor decay.
  __device__ void make_decays(std::int64_t t, int count) {
    const int lane = static_cast<int>(threadIdx.x);
    const float delta = lane < count ? step_size(args_, t + lane, place_.head) : 0.0F;
    float lambda = delta * args_.A(place_.head);
#pragma unroll
    for (int offset = 1; offset < side; offset *= 2) {
      const float before = __shfl_up_sync(full_warp, lambda, offset);
      if (lane >= offset) lambda += before;
    }
    if (lane < side) {
      tiles_.delta[lane] = delta;
      tiles_.lambda[lane] = lambda;
    }
  }

  __device__ void make_gate() {
    float product[patch][patch] = {};
    dot_rows(product, tiles_.C, tiles_.B, tiles_.pitch, tiles_.pitch - 4);
    for_each_output([&](int i, int j, int a, int b) {
      const float gap = fminf(tiles_.lambda[i] - tiles_.lambda[j], 0.0F);
      tiles_.gate[i * Tiles<side>::small_pitch + j] =
          j <= i ? product[a][b] * expf(gap) * tiles_.delta[j] : 0.0F;
    });
  }

  __device__ void write_outputs(std::int64_t t, int count) {
    float sum[patch][patch] = {};
    dot_rows(sum, tiles_.C, tiles_.state, tiles_.pitch, tiles_.pitch - 4);
    for_each_output([&](int i, int p, int a, int b) {
      float value = sum[a][b] * expf(tiles_.lambda[i]);
      for (int j = 0; j <= i; ++j) {
        value += tiles_.gate[i * Tiles<side>::small_pitch + j] *
                 tiles_.x[j * Tiles<side>::small_pitch + p];
      }
      if (i >= count || place_.p + p >= args_.x.extent[2]) return;
      value += args_.D(place_.head) * tiles_.x[i * Tiles<side>::small_pitch + p];
      store_element(args_.y.at(t + i, place_.head, place_.p + p), args_.y.dtype, value);
    });
  }

  /// Patches of 4 x 4 elements of the state per thread and step.
  __device__ void advance_state() {
    const float decay = expf(tiles_.lambda[side - 1]);
    const int columns = (tiles_.pitch - 4) / 4;
    for (int index = threadIdx.x; index < side / 4 * columns; index += threads) {
      const int p = index / columns * 4;
      const int n = index % columns * 4;
      float sum[4][4] = {};
#pragma unroll 4
      for (int j = 0; j < side; ++j) {
        const auto x =
            *reinterpret_cast<const float4*>(&tiles_.weighted[j * Tiles<side>::small_pitch + p]);
        const auto b = *reinterpret_cast<const float4*>(&tiles_.B[j * tiles_.pitch + n]);
        const float x_value[4] = {x.x, x.y, x.z, x.w};
        const float b_value[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int k = 0; k < 4; ++k) sum[i][k] += x_value[i] * b_value[k];
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        auto& state = *reinterpret_cast<float4*>(&tiles_.state[(p + i) * tiles_.pitch + n]);
        state = make_float4(decay * state.x + sum[i][0], decay * state.y + sum[i][1],
                            decay * state.z + sum[i][2], decay * state.w + sum[i][3]);
      }
    }
  }

  template <class Visit>
  __device__ void for_each_output(Visit visit) {
#pragma unroll
    for (int a = 0; a < patch; ++a) {
#pragma unroll
      for (int b = 0; b < patch; ++b) {
        visit(static_cast<int>(threadIdx.x) / lanes + a * lanes,
              static_cast<int>(threadIdx.x) % lanes + b * lanes, a, b);
      }
    }
  }

  const SsdArgs& args_;
  const bool vectors_;  // rows may be read four elements at a time
  const Place place_;
  Tiles<side> tiles_;
};

}  // namespace chunkstate::cuda::chunk_walker
