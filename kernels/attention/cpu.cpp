// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/attention.hpp"

namespace chunkstate::cpu {

void attention(const Executor&, const AttentionArgs& args) { reference::attention(args); }
void attention_step(const Executor&, const AttentionStepArgs& args) {
  reference::attention_step(args);
}

}  // namespace chunkstate::cpu
