// SPDX-License-Identifier: Apache-2.0
#include "kernels/synthetic/synthetic_fill.hpp"

#include "kernels/base/check.hpp"

namespace chunkstate {

void synthetic_fill(const Executor& exec, const SyntheticFillArgs& args) {
  const std::int64_t elements = args.target.extent[0];
  check_shape("synthetic_fill", "target", args.target, {elements}, "elements");
  check_shape("synthetic_fill", "keys", args.keys,
              {(elements + synthetic_block - 1) / synthetic_block}, "blocks");
  if (exec.backend != Backend::cuda) throw BackendError("synthetic_fill", exec.backend);
  if constexpr (CHUNKSTATE_HAS_CUDA) cuda::synthetic_fill(args, exec.stream);
}

}  // namespace chunkstate
