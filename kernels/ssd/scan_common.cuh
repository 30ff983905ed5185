// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/base/elements.cuh"
#include "kernels/ssd/ssd.hpp"

namespace chunkstate::cuda {

/// The step size delta of a token from its stored value, in fp32.
__device__ __forceinline__ float step_size(float dt, float bias, float dt_min, float dt_max) {
  const float v = dt + bias;
  return fminf(fmaxf(v > 20.0F ? v : log1pf(expf(v)), dt_min), dt_max);
}

/// delta of one token and head.
__device__ __forceinline__ float step_size(const SsdArgs& args, std::int64_t token,
                                           std::int64_t head) {
  return step_size(load_element(args.dt.at(token, head), args.dt.dtype), args.dt_bias(head),
                   args.dt_min, args.dt_max);
}

/// The call for tokens [begin, end) alone. The state connects consecutive ones.
inline SsdArgs slice_tokens(const SsdArgs& args, std::int64_t begin, std::int64_t end) {
  SsdArgs part = args;
  part.x = args.x.slice(0, begin, end);
  part.dt = args.dt.slice(0, begin, end);
  part.B = args.B.slice(0, begin, end);
  part.C = args.C.slice(0, begin, end);
  part.y = args.y.slice(0, begin, end);
  part.first_position += begin;
  return part;
}

/// `count` elements of all slots as packed fp32 in device memory; zeros if `state` is not given.
void load_state(const AnyView<4>& state, std::int64_t count, float* packed, CUstream_st* stream);

/// Rounds packed fp32 back to `state`, if that is given.
void store_state(const AnyView<4>& state, std::int64_t count, float* packed, CUstream_st* stream);

}  // namespace chunkstate::cuda
