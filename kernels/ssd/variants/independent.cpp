// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/blocked.hpp"

namespace chunkstate::cpu {

void independent(const Executor& exec, const SsdArgs& args) {
  blocked_scan(exec, SsdSemantics::independent, args);
}

}  // namespace chunkstate::cpu
