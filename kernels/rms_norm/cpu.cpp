// SPDX-License-Identifier: Apache-2.0
#include "kernels/rms_norm/rms_norm.hpp"

namespace chunkstate::cpu {

void rms_norm(const Executor&, const RmsNormArgs& args) { reference::rms_norm(args); }

}  // namespace chunkstate::cpu
