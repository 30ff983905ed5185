// SPDX-License-Identifier: Apache-2.0
#include "kernels/rope/rope.hpp"

namespace chunkstate::cpu {

void rope(const Executor&, const RopeArgs& args) { reference::rope(args); }

}  // namespace chunkstate::cpu
