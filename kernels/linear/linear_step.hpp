// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

/// What becomes of the products of linear_step.
enum class StepSink : std::uint8_t {
  store,       // y_i = scale (W_i x + bias_i), for each product given
  accumulate,  // y += scale (W x + bias)
  silu_mul,    // y = silu(W_0 x) (W_1 x): two weights of one shape, y of the first
  convolve,    // as store; then some rows of y pass conv1d_step, in place
};

struct LinearProduct {
  ConstAnyView<2> weight;  // [out, in]
  ConstAnyView<1> bias;    // [out]; not given means none
  AnyView<2> y;            // [tokens, out]
};

/// conv1d_step of the columns [first, first + channels) of y.
struct StepConvolution {
  std::int64_t first = 0;
  ConstAnyView<2> weight;  // [channels, taps], at most 4 taps
  ConstAnyView<1> bias;    // [channels]; not given means none
  AnyView<3> window;       // [tokens, taps - 1, channels]  oldest first; in: before, out: after
};

/// The linear maps of a decode step: 1 to 8 tokens, one pass over the weights, with the RMS norm
/// before them and the elementwise operator behind them in the same launch.
struct LinearStepArgs {
  ConstAnyView<2> x;             // [tokens, in]
  ConstAnyView<1> norm;          // [in]  rms_norm's weight; not given: x is taken as it is
  View<const float, 2> squares;  // [tokens, parts]  sums of x^2 over parts of each row, with `norm`
                                 // only; not given: summed here, which every block then does
  float epsilon = 0.0F;
  StepSink sink = StepSink::store;
  float scale = 1.0F;                     // sinks store and accumulate only
  std::array<LinearProduct, 3> products;  // the first ones given, all with the same `in`
  StepConvolution convolution;            // sink convolve only
  View<float, 2> squares_out;  // accumulate only: [tokens, ceil(out / 16)] sums of y^2 over
                               // 16 columns each; not given: none
  /// linear_step_counters() zeros, left as zeros. Calls that may overlap (neighbours in a stream)
  /// need different ones.
  View<std::uint32_t, 1> counters;
  /// linear_step_partials() floats. Calls in one stream may share them.
  View<float, 1> partials;
};

/// Whether this device has the kernel for these arguments: Hopper or later; x in fp32 or the
/// weights' type; weights of one 16-bit type with rows of a multiple of 64 elements, 16-byte
/// aligned.
bool linear_step_applies(const LinearStepArgs& args);
std::int64_t linear_step_counters(const LinearStepArgs& args);
std::int64_t linear_step_partials(const LinearStepArgs& args);

/// Products in the weights' type with fp32 sums in a fixed order, whatever the number of tokens and
/// of multiprocessors that take part. Where linear_step_applies(): Backend::cuda. Throws
/// ShapeError, BackendError. Asynchronous.
void linear_step(const Executor& exec, const LinearStepArgs& args);

namespace cuda {
void linear_step(const LinearStepArgs& args, CUstream_st* stream);
}

}  // namespace chunkstate
