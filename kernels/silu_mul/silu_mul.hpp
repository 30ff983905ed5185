// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

struct SiluMulArgs {
  ConstAnyView<2> gate;  // [tokens, channels]
  ConstAnyView<2> up;    // [tokens, channels]
  AnyView<2> y;          // [tokens, channels]; may be gate or up
};

/// y = gate / (1 + exp(-gate)) * up, in fp32 (reference: double), rounded once.
/// Throws ShapeError, BackendError. Asynchronous on Backend::cuda.
void silu_mul(const Executor& exec, const SiluMulArgs& args);

namespace reference {
void silu_mul(const SiluMulArgs& args);
}
namespace cpu {
void silu_mul(const Executor& exec, const SiluMulArgs& args);
}
namespace cuda {
void silu_mul(const SiluMulArgs& args, CUstream_st* stream);
}

}  // namespace chunkstate
