// SPDX-License-Identifier: Apache-2.0
#include "kernels/embedding/embedding.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/launches.hpp"

namespace chunkstate {

void embedding(const Executor& exec, const EmbeddingArgs& args) {
  const std::int64_t tokens = args.tokens.extent[0];
  const auto [vocab, channels] = args.table.extent;
  check_shape("embedding", "tokens", args.tokens, {tokens}, "tokens");
  check_shape("embedding", "table", args.table, {vocab, channels}, "vocab x channels");
  check_shape("embedding", "y", args.y, {tokens, channels}, "tokens x channels");
  count_launches();
  switch (exec.backend) {
    case Backend::reference:
    case Backend::cpu:
      return reference::embedding(args);  // copies one row per token: nothing to gain
    case Backend::cuda:
      if constexpr (CHUNKSTATE_HAS_CUDA) return cuda::embedding(args, exec.stream);
  }
  throw BackendError("embedding", exec.backend);
}

}  // namespace chunkstate
