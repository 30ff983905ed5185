// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"
#include "kernels/selective_scan/variants.hpp"

namespace chunkstate {

/// Arguments of the Mamba-1 state-space scan: every channel has a state of its own, and every
/// element of it a decay rate of its own. All channels of a sequence share B and C.
struct SelectiveScanArgs {
  ConstAnyView<3> x;             // [batch, tokens, channels]
  ConstAnyView<3> dt;            // [batch, tokens, channels]  step size before bias and softplus
  ConstAnyView<3> B;             // [batch, tokens, state_dim]
  ConstAnyView<3> C;             // [batch, tokens, state_dim]
  ConstAnyView<3> z;             // [batch, tokens, channels]  gate; not given: none
  View<const float, 2> A;        // [channels, state_dim]      decay rate, < 0
  View<const float, 1> dt_bias;  // [channels]                 not given: 0
  View<const float, 1> D;        // [channels]                 skip weight; not given: 0
  bool softplus = true;          // without it dt + dt_bias is the step size itself, >= 0
  AnyView<3> y;                  // [batch, tokens, channels]; must not overlap the inputs
  AnyView<3> state;  // [batch, channels, state_dim]; in: before the first token, out: after the
                     // last one; not given: starts from zero and is not kept
  std::int64_t chunk_size = 256;  // blocking of variant chunked, at least 1; the others ignore it
};

/// The scan. With delta = softplus(dt + dt_bias), for every sequence, channel d and n < state_dim:
///
///   h_t[d,n] = exp(delta_t[d] A[d,n]) h_{t-1}[d,n] + delta_t[d] B_t[n] x_t[d]
///   y_t[d]   = (sum_n C_t[n] h_t[d,n] + D[d] x_t[d]) silu(z_t[d])
///
/// fp32 inside (reference: double), y rounded once. softplus(v) = v for v > 20. All variants
/// compute this; Backend::reference ignores the variant. Backend::cuda takes state_dim <= 128.
/// Throws ShapeError, BackendError. Asynchronous on Backend::cuda.
void selective_scan(const Executor& exec, const SelectiveScanVariant& variant,
                    const SelectiveScanArgs& args);

namespace reference {
void selective_scan(const SelectiveScanArgs& args);
}

}  // namespace chunkstate
