// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv1d/conv1d.hpp"

namespace chunkstate::cpu {

void conv1d(const Executor&, const Conv1dArgs& args) { reference::conv1d(args); }
void conv1d_step(const Executor&, const Conv1dStepArgs& args) { reference::conv1d_step(args); }

}  // namespace chunkstate::cpu
