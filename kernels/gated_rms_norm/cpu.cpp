// SPDX-License-Identifier: Apache-2.0
#include "kernels/gated_rms_norm/gated_rms_norm.hpp"

namespace chunkstate::cpu {

void gated_rms_norm(const Executor&, const GatedRmsNormArgs& args) {
  reference::gated_rms_norm(args);
}

}  // namespace chunkstate::cpu
