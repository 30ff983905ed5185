// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/linear/step_ring.cuh"

// How linear_step's consumer warps bring x to shared memory.
namespace chunkstate::cuda::step {

inline constexpr int vector = 8;
inline constexpr int vectors_per_thread = max_slice_columns / vector / consumers;
inline constexpr int tokens_at_once = 4;  // whose rows a thread loads before it uses the first

__device__ __forceinline__ void wait_for_consumers() {
  asm volatile("bar.sync 1, %0;" ::"n"(consumers) : "memory");
}

/// 1 / sqrt(mean of x^2 + epsilon) of token `token`, by one warp.
__device__ inline float norm_scale(const LinearStepArgs& args, int token) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  float sum = 0.0F;
  if (args.squares.data != nullptr) {
    for (std::int64_t i = lane; i < args.squares.extent[1]; i += warp_size) {
      sum += args.squares(token, i);
    }
  } else {
    for (std::int64_t c = lane * vector; c < args.x.extent[1]; c += warp_size * vector) {
      float x[vector];
      load_elements(args.x.at(token, c), args.x.dtype, x);
#pragma unroll
      for (int k = 0; k < vector; ++k) sum += x[k] * x[k];
    }
  }
  return 1.0F / sqrtf(warp_sum(sum) / static_cast<float>(args.x.extent[1]) + args.epsilon);
}

/// A thread's columns of the norm's weight, which no kernel writes: read ahead.
struct NormColumns {
  float weight[vectors_per_thread][vector];

  __device__ NormColumns(const LinearStepArgs& args, int begin, int columns) {
    if (args.norm.data == nullptr) return;
#pragma unroll
    for (int v = 0; v < vectors_per_thread; ++v) {
      const int column = (v * consumers + static_cast<int>(threadIdx.x)) * vector;
      if (column < columns) load_elements(args.norm.at(begin + column), args.norm.dtype, weight[v]);
    }
  }
};

/// The slice of x in the weights' type, normalised if there is a norm: token t at x + t x_pitch.
template <DType dtype, DType x_type, int at_once>
__device__ void stage_input(const LinearStepArgs& args, const Cut& cut, const Shared& shared,
                            const NormColumns& norm, int begin, int columns) {
  constexpr int words = x_type == DType::fp32 ? 2 : 1;
  const int thread = static_cast<int>(threadIdx.x);
  const int tokens = static_cast<int>(args.x.extent[0]);
  const bool normed = args.norm.data != nullptr;
  const auto for_each = [&](int first, auto visit) {
#pragma unroll
    for (int t = 0; t < at_once; ++t) {
#pragma unroll
      for (int v = 0; v < vectors_per_thread; ++v) {
        const int column = (v * consumers + thread) * vector;
        if (first + t < tokens && column < columns) visit(t, v, first + t, column);
      }
    }
  };
  for (int first = 0; first < tokens; first += at_once) {
    uint4 raw[at_once][vectors_per_thread][words];
    for_each(first, [&](int t, int v, int token, int column) {
      const auto* source = reinterpret_cast<const uint4*>(args.x.at(token, begin + column));
#pragma unroll
      for (int w = 0; w < words; ++w) raw[t][v][w] = source[w];
    });
    if (normed && first == 0) {  // while these loads are on their way
      const int warp = thread / warp_size;
      if (warp < tokens) {
        const float scale = norm_scale(args, warp);
        if (thread % warp_size == 0) shared.scale[warp] = scale;
      }
      wait_for_consumers();
    }
    for_each(first, [&](int t, int v, int token, int column) {
      const std::uint32_t target = shared.x + token * cut.x_pitch + column * 2;
      if (x_type != DType::fp32 && !normed) return hopper::store_shared_16(target, raw[t][v][0]);
      const std::uint32_t* const word = &raw[t][v][0].x;
      const float scale = normed ? shared.scale[token] : 1.0F;
      std::uint32_t packed[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        float2 pair;
        if constexpr (x_type == DType::fp32) {
          pair = {__uint_as_float(word[2 * k]), __uint_as_float(word[2 * k + 1])};
        } else {
          pair = detail::unpack<x_type>(word[k]);
        }
        if (normed) {
          pair.x *= scale * norm.weight[v][2 * k];
          pair.y *= scale * norm.weight[v][2 * k + 1];
        }
        packed[k] = detail::pack<dtype>(pair.x, pair.y);
      }
      hopper::store_shared_16(target, {packed[0], packed[1], packed[2], packed[3]});
    });
  }
  wait_for_consumers();
}

}  // namespace chunkstate::cuda::step
