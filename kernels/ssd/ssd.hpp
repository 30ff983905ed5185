// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"
#include "kernels/ssd/variants.hpp"

namespace chunkstate {

/// Arguments of the Mamba-2 state-space scan (SSD) of one sequence.
///
/// Heads share B and C in blocks: head h reads group h / (heads / groups).
///
/// The token with index t stands at position first_position + t of its sequence and belongs to
/// chunk position / chunk_size. So chunk borders lie on the sequence's own grid, however it is cut
/// into calls.
struct SsdArgs {
  ConstAnyView<3> x;             // [tokens, heads, head_dim]
  ConstAnyView<2> dt;            // [tokens, heads]              step size before bias and softplus
  ConstAnyView<3> B;             // [tokens, groups, state_dim]
  ConstAnyView<3> C;             // [tokens, groups, state_dim]
  View<const float, 1> A;        // [heads]                      decay rate, < 0
  View<const float, 1> dt_bias;  // [heads]
  View<const float, 1> D;        // [heads]                      skip weight
  float dt_min = 0.0F;           // limits of the step size after softplus
  float dt_max = std::numeric_limits<float>::infinity();
  AnyView<3> y;      // [tokens, heads, head_dim]; must not overlap the inputs
  AnyView<4> state;  // [slots, heads, head_dim, state_dim], slots = state_slots(variant, lookback);
                     // in: before the first token, out: after the last one;
                     // not given: starts from zero and is not kept
  std::int64_t first_position = 0;
  std::int64_t chunk_size = 256;
  std::int64_t lookback = 0;  // SsdSemantics::lookback only
};

/// The scan. With delta_t = clamp(softplus(dt_t + dt_bias), dt_min, dt_max), for every head:
///
///   S_t = exp(delta_t A) S_{t-1} + delta_t x_t B_t^T      y_t = S_t C_t + D x_t
///
/// A variant that is not causal (own_end_state) takes whole chunks: first_position must be a
/// multiple of chunk_size, and a last chunk that the call cuts short counts as ragged. It starts
/// from no state; `state` receives the last chunk's end state.
///
/// What S forgets at a chunk border is the variant's semantics (variants.hpp). fp32 inside
/// (reference: double), y rounded once. softplus(v) = v for v > 20. Backend::reference runs the
/// definition of the variant's semantics, token by token. Throws ShapeError, BackendError.
/// Asynchronous on Backend::cuda.
void ssd_scan(const Executor& exec, const SsdVariant& variant, const SsdArgs& args);

/// One token of each of `batch` sequences.
struct SsdStepArgs {
  ConstAnyView<3> x;             // [batch, heads, head_dim]
  ConstAnyView<2> dt;            // [batch, heads]
  ConstAnyView<3> B;             // [batch, groups, state_dim]
  ConstAnyView<3> C;             // [batch, groups, state_dim]
  View<const float, 1> A;        // [heads]
  View<const float, 1> dt_bias;  // [heads]
  View<const float, 1> D;        // [heads]
  float dt_min = 0.0F;
  float dt_max = std::numeric_limits<float>::infinity();
  AnyView<3> y;                           // [batch, heads, head_dim]
  AnyView<5> state;                       // [batch, slots, heads, head_dim, state_dim]
  View<const std::int64_t, 1> positions;  // [batch]  of the token in its sequence
  std::int64_t chunk_size = 256;
};

/// ssd_scan for one further token of every sequence. The variant must have a decode form
/// (`causal`). The number of slots decides how far back a sequence sees; exact semantics has one
/// that is never reset.
void ssd_step(const Executor& exec, const SsdVariant& variant, const SsdStepArgs& args);

namespace reference {
void ssd_scan(SsdSemantics semantics, const SsdArgs& args);
void ssd_step(SsdSemantics semantics, const SsdStepArgs& args);
}  // namespace reference
namespace cpu {
void ssd_step(const Executor& exec, SsdSemantics semantics, const SsdStepArgs& args);
}
namespace cuda {
void ssd_step(SsdSemantics semantics, const SsdStepArgs& args, CUstream_st* stream);
}

}  // namespace chunkstate
