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
};

/// v_t = x_t * silu(z_t);  y_t = weight * v_t / sqrt(mean(v_t^2) + epsilon).
/// Gate first, then the norm; the mean is over the channels of a group. fp32 inside (reference:
/// double), rounded once. Throws ShapeError, BackendError. Asynchronous on Backend::cuda.
void gated_rms_norm(const Executor& exec, const GatedRmsNormArgs& args);

namespace reference {
void gated_rms_norm(const GatedRmsNormArgs& args);
}
namespace cpu {
void gated_rms_norm(const Executor& exec, const GatedRmsNormArgs& args);
}
namespace cuda {
void gated_rms_norm(const GatedRmsNormArgs& args, CUstream_st* stream);
}

}  // namespace chunkstate
