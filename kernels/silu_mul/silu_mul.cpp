// SPDX-License-Identifier: Apache-2.0
#include "kernels/silu_mul/silu_mul.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/launches.hpp"

namespace chunkstate {

void silu_mul(const Executor& exec, const SiluMulArgs& args) {
  const std::int64_t tokens = args.gate.extent[0];
  const std::int64_t channels = args.gate.extent[1];
  check_shape("silu_mul", "gate", args.gate, {tokens, channels}, "tokens x channels");
  check_shape("silu_mul", "up", args.up, {tokens, channels}, "tokens x channels");
  check_shape("silu_mul", "y", args.y, {tokens, channels}, "tokens x channels");
  count_launches();
  switch (exec.backend) {
    case Backend::reference:
      return reference::silu_mul(args);
    case Backend::cpu:
      return cpu::silu_mul(exec, args);
    case Backend::cuda:
      if constexpr (CHUNKSTATE_HAS_CUDA) return cuda::silu_mul(args, exec.stream);
  }
  throw BackendError("silu_mul", exec.backend);
}

}  // namespace chunkstate
