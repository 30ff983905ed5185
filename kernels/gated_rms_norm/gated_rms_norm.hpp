// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

struct GatedRmsNormArgs {
  ConstAnyView<2> x;        // [tokens, channels]
  ConstAnyView<2> z;        // [tokens, channels]  the gate
  ConstAnyView<1> weight;   // [channels]
  float epsilon = 1e-5F;    // under the root
  AnyView<2> y;             // [tokens, channels]; may be x
  std::int64_t groups = 1;  // of channels / groups neighbours, each with a mean of its own
  // Where a token's channels are shared out, here is a part of them, of one group:
  View<float, 1> squares;             // [tokens]  sums of v_t^2 over all parts; not given: one part
  std::int64_t squares_channels = 0;  // of all parts; with `squares` only
};

/// v_t = x_t * silu(z_t);  y_t = weight * v_t / sqrt(mean(v_t^2) + epsilon).
/// Gate first, then the norm; the mean is over the channels of a group. fp32 inside (reference:
/// double), rounded once. Throws ShapeError, BackendError. Asynchronous on Backend::cuda.
void gated_rms_norm(const Executor& exec, const GatedRmsNormArgs& args);

/// squares_t = sum of v_t^2 over the channels that are here; y and weight are not used. The same
/// errors.
void gated_squares(const Executor& exec, const GatedRmsNormArgs& args);

namespace reference {
void gated_rms_norm(const GatedRmsNormArgs& args);
void gated_squares(const GatedRmsNormArgs& args);
}  // namespace reference
namespace cpu {
void gated_rms_norm(const Executor& exec, const GatedRmsNormArgs& args);
void gated_squares(const Executor& exec, const GatedRmsNormArgs& args);
}  // namespace cpu
namespace cuda {
void gated_rms_norm(const GatedRmsNormArgs& args, CUstream_st* stream);
void gated_squares(const GatedRmsNormArgs& args, CUstream_st* stream);
}  // namespace cuda

}  // namespace chunkstate
