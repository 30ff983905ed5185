// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/ssd.hpp"

namespace chunkstate {

/// ssd_step and the gate behind it in one launch; what is left of gated_rms_norm is its norm, for
/// linear_step.
struct SsdGatedStepArgs {
  SsdStepArgs step;        // step.y: ssd_step's y times silu(z), of any type
  ConstAnyView<3> z;       // [batch, heads, head_dim]
  View<float, 2> squares;  // [batch, heads]  out: sum of each head's y^2, as stored
};

/// Backend::cuda only. Throws ShapeError, BackendError. Asynchronous.
void ssd_gated_step(const Executor& exec, const SsdVariant& variant, const SsdGatedStepArgs& args);

namespace cuda {
void ssd_gated_step(SsdSemantics semantics, const SsdGatedStepArgs& args, CUstream_st* stream);
}

}  // namespace chunkstate
