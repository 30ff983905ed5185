// SPDX-License-Identifier: Apache-2.0
#include "kernels/embedding/embedding.hpp"

namespace chunkstate::reference {

void embedding(const EmbeddingArgs& args) {
  for (std::int64_t t = 0; t < args.tokens.extent[0]; ++t) {
    for (std::int64_t c = 0; c < args.table.extent[1]; ++c) {
      args.y.store(args.scale * args.table.load(args.tokens(t), c), t, c);
    }
  }
}

}  // namespace chunkstate::reference
