// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear/linear.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/launches.hpp"

namespace chunkstate {

void linear(const Executor& exec, const LinearArgs& args) {
  const std::int64_t tokens = args.x.extent[0];
  const auto [out_features, in_features] = args.weight.extent;
  check_shape("linear", "weight", args.weight, {out_features, in_features},
              "out_features x in_features");
  check_shape("linear", "x", args.x, {tokens, in_features}, "tokens x in_features");
  if (args.bias) check_shape("linear", "bias", args.bias, {out_features}, "out_features");
  check_shape("linear", "y", args.y, {tokens, out_features}, "tokens x out_features");
  count_launches();
  switch (exec.backend) {
    case Backend::reference:
      return reference::linear(args);
    case Backend::cpu:
      return cpu::linear(exec, args);
    case Backend::cuda:
      if constexpr (CHUNKSTATE_HAS_CUDA) return cuda::linear(args, exec.stream);
  }
  throw BackendError("linear", exec.backend);
}

}  // namespace chunkstate
