// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

/// Storage types of x, weight and y are independent of each other: fp32 activations on bf16 weights
/// give the fp32 result of a model whose file holds bf16.
struct LinearArgs {
  ConstAnyView<2> x;        // [tokens, in_features]
  ConstAnyView<2> weight;   // [out_features, in_features], as in a Hugging Face file
  ConstAnyView<1> bias;     // [out_features]; not given means none
  AnyView<2> y;             // [tokens, out_features]
  bool accumulate = false;  // y += instead of y =, rounded once
  float scale = 1.0F;       // of what is stored or added
};

/// On a CPU a row's result does not depend on the others, nor on their number, up to so many.
inline constexpr std::int64_t same_sums_tokens = 16;

/// y_t = scale (W x_t + bias) (+ y_t). Sums in fp32 (reference: double), one rounding to y's type.
/// A row's result does not depend on the number of threads.
/// Throws ShapeError, BackendError. Asynchronous on Backend::cuda.
void linear(const Executor& exec, const LinearArgs& args);

/// linear() of each, all of the same x and none of another's y: on a CPU the threads meet once and
/// x is prepared once. The results are those of linear().
void linear_group(const Executor& exec, std::span<const LinearArgs> products);

/// Scratch memory that a product takes on Backend::cuda, at most.
inline constexpr std::int64_t linear_scratch_bytes = std::int64_t{32} << 20;

namespace reference {
void linear(const LinearArgs& args);
}
namespace cpu {
void linear(const Executor& exec, std::span<const LinearArgs> products);
}
namespace cuda {
void linear(const LinearArgs& args, CUstream_st* stream, bool autotune);
}

}  // namespace chunkstate
