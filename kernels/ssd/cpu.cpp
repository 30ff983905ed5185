// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/ssd.hpp"

namespace chunkstate::cpu {

void ssd_step(const Executor&, SsdSemantics semantics, const SsdStepArgs& args) {
  reference::ssd_step(semantics, args);
}

}  // namespace chunkstate::cpu
