// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

/// Rotary embedding of the first 2 * pairs elements of every head, in place.
struct RopeArgs {
  AnyView<3> x;                            // [tokens, heads, head_dim]
  View<const std::int64_t, 1> positions;   // [tokens]
  View<const float, 1> inverse_frequency;  // [pairs], 2 * pairs <= head_dim
};

/// Pairs (i, i + pairs) are turned by the angle position * inverse_frequency[i], formed in fp32 as
/// transformers does; the other elements stay. Throws ShapeError, BackendError.
/// Asynchronous on Backend::cuda.
void rope(const Executor& exec, const RopeArgs& args);

namespace reference {
void rope(const RopeArgs& args);
}
namespace cpu {
void rope(const Executor& exec, const RopeArgs& args);
}
namespace cuda {
void rope(const RopeArgs& args, CUstream_st* stream);
}

}  // namespace chunkstate
