// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

/// Arguments of the causal depthwise convolution of one sequence.
struct Conv1dArgs {
  ConstAnyView<2> x;       // [tokens, channels]
  ConstAnyView<2> weight;  // [channels, taps]; the last tap multiplies the current token
  ConstAnyView<1> bias;    // [channels]; not given means none
  AnyView<2> window;  // [taps - 1, channels]  the last inputs, oldest first: read as the tokens
                      // before x, then updated; not given means zeros, and is not kept
  AnyView<2> y;       // [tokens, channels]; must not overlap x
};

/// y_t = silu(bias + sum_k weight[k] x_{t - (taps - 1) + k}), in fp32 (reference: double), rounded
/// once. Throws ShapeError, BackendError. Asynchronous on Backend::cuda.
void conv1d(const Executor& exec, const Conv1dArgs& args);

/// One token of each of `batch` sequences.
struct Conv1dStepArgs {
  ConstAnyView<2> x;       // [batch, channels]
  ConstAnyView<2> weight;  // [channels, taps]
  ConstAnyView<1> bias;    // [channels]; not given means none
  AnyView<3> window;       // [batch, taps - 1, channels]
  AnyView<2> y;            // [batch, channels]
};

/// conv1d for one further token of every sequence.
void conv1d_step(const Executor& exec, const Conv1dStepArgs& args);

namespace reference {
void conv1d(const Conv1dArgs& args);
void conv1d_step(const Conv1dStepArgs& args);
}  // namespace reference
namespace cpu {
void conv1d(const Executor& exec, const Conv1dArgs& args);
void conv1d_step(const Executor& exec, const Conv1dStepArgs& args);
}  // namespace cpu
namespace cuda {
void conv1d(const Conv1dArgs& args, CUstream_st* stream);
void conv1d_step(const Conv1dStepArgs& args, CUstream_st* stream);
}  // namespace cuda

}  // namespace chunkstate
