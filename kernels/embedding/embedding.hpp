// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

struct EmbeddingArgs {
  View<const std::int32_t, 1> tokens;  // [tokens]; the caller has checked 0 <= id < vocab
  ConstAnyView<2> table;               // [vocab, channels]
  AnyView<2> y;                        // [tokens, channels]
  float scale = 1.0F;
};

/// y_t = scale table[tokens_t], converted to y's storage type.
/// Throws ShapeError, BackendError. Asynchronous on Backend::cuda.
void embedding(const Executor& exec, const EmbeddingArgs& args);

namespace reference {
void embedding(const EmbeddingArgs& args);
}
namespace cuda {
void embedding(const EmbeddingArgs& args, CUstream_st* stream);
}

}  // namespace chunkstate
