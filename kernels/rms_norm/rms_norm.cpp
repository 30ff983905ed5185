// SPDX-License-Identifier: Apache-2.0
#include "kernels/rms_norm/rms_norm.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/launches.hpp"

namespace chunkstate {

void rms_norm(const Executor& exec, const RmsNormArgs& args) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t channels = args.x.extent[1];
  check_shape("rms_norm", "x", args.x, {tokens, channels}, "tokens x channels");
  check_shape("rms_norm", "weight", args.weight, {channels}, "channels");
  check_shape("rms_norm", "y", args.y, {tokens, channels}, "tokens x channels");
  if (args.add) {
    check_shape("rms_norm", "add", args.add, {tokens, channels}, "tokens x channels");
    check_shape("rms_norm", "sum", args.sum, {tokens, channels}, "tokens x channels");
  }
  count_launches();
  switch (exec.backend) {
    case Backend::reference:
      return reference::rms_norm(args);
    case Backend::cpu:
      return cpu::rms_norm(exec, args);
    case Backend::cuda:
      if constexpr (CHUNKSTATE_HAS_CUDA) return cuda::rms_norm(args, exec.stream);
  }
  throw BackendError("rms_norm", exec.backend);
}

}  // namespace chunkstate
