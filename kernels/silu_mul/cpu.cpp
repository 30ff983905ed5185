// SPDX-License-Identifier: Apache-2.0
#include "kernels/silu_mul/silu_mul.hpp"

namespace chunkstate::cpu {

void silu_mul(const Executor&, const SiluMulArgs& args) { reference::silu_mul(args); }

}  // namespace chunkstate::cpu
