// SPDX-License-Identifier: Apache-2.0
#include "kernels/rope/rope.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/launches.hpp"

namespace chunkstate {

void rope(const Executor& exec, const RopeArgs& args) {
  const auto [tokens, heads, head_dim] = args.x.extent;
  check_shape("rope", "x", args.x, {tokens, heads, head_dim}, "tokens x heads x head_dim");
  check_shape("rope", "positions", args.positions, {tokens}, "tokens");
  const std::int64_t pairs = args.inverse_frequency.extent[0];
  check_shape("rope", "inverse_frequency", args.inverse_frequency, {pairs}, "pairs");
  if (2 * pairs > head_dim) {
    throw ShapeError("rope: inverse_frequency has " + std::to_string(pairs) +
                     " pairs, expected at most head_dim / 2 = " + std::to_string(head_dim / 2));
  }
  if (pairs == 0) return;
  count_launches();
  switch (exec.backend) {
    case Backend::reference:
      return reference::rope(args);
    case Backend::cpu:
      return cpu::rope(exec, args);
    case Backend::cuda:
      if constexpr (CHUNKSTATE_HAS_CUDA) return cuda::rope(args, exec.stream);
  }
  throw BackendError("rope", exec.backend);
}

}  // namespace chunkstate
