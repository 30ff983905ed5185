// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

struct RmsNormArgs {
  ConstAnyView<2> x;       // [tokens, channels]
  ConstAnyView<1> weight;  // [channels]
  float epsilon = 1e-5F;   // under the root
  AnyView<2> y;            // [tokens, channels]; may be x if that is not `sum`
  ConstAnyView<2> add;     // [tokens, channels]  added to x before the norm; not given: none
  AnyView<2> sum;  // [tokens, channels]  with `add`: x + add, rounded; the norm is of what is
                   // stored here. May be x or add
};

/// y_t = weight * x_t / sqrt(mean(x_t^2) + epsilon), in fp32 (reference: double), rounded once.
/// With `add`, x is a residual stream that takes what a block has made in the same pass.
/// (transformers rounds the normalised value to the storage type before the product with weight;
/// in fp32 the two are equal.)
/// Throws ShapeError, BackendError. Asynchronous on Backend::cuda.
void rms_norm(const Executor& exec, const RmsNormArgs& args);

namespace reference {
void rms_norm(const RmsNormArgs& args);
}
namespace cpu {
void rms_norm(const Executor& exec, const RmsNormArgs& args);
}
namespace cuda {
void rms_norm(const RmsNormArgs& args, CUstream_st* stream);
}

}  // namespace chunkstate
