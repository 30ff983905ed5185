// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/attention/attention.hpp"
#include "kernels/base/elements.cuh"

// What the decode attention of both methods shares: sizes, and the rotation of new rows.
namespace chunkstate::cuda {

inline constexpr int step_warps = 4;
inline constexpr int step_threads = step_warps * warp_size;
inline constexpr int keys_per_tile = 64;
inline constexpr int max_head_dim = 256;
inline constexpr float log2_e = 1.4426950408889634F;

/// What comes before the attention, or nothing (no new key). Position of the new token: length - 1.
struct Append {
  AnyView<4> k, v;
  ConstAnyView<3> new_k, new_v;
  View<const float, 1> inverse_frequency;

  __device__ bool has_new() const { return k.data != nullptr; }
  __device__ int pairs() const { return static_cast<int>(inverse_frequency.extent[0]); }
};

/// Element `e` of a row whose first 2 * pairs elements are rotated, and its partner in the rotation
/// (`e` itself for the others).
__device__ __forceinline__ int partner(int e, int pairs) {
  return e >= 2 * pairs ? e : e < pairs ? e + pairs : e - pairs;
}
/// Element `e` with its partner's value, turned by its pair's angle.
__device__ __forceinline__ float rotated(float value, float other, int e, int pairs, float cosine,
                                         float sine) {
  if (e >= 2 * pairs) return value;
  return value * cosine + (e < pairs ? -other : other) * sine;
}

/// The methods' launches. `partials`: attention_step_partials() floats.
void launch_naive_step(const AttentionStepArgs& args, const Append& append, float* partials,
                       CUstream_st* stream);

}  // namespace chunkstate::cuda
