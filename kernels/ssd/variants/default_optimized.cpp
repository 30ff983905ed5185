// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/blocked.hpp"

namespace chunkstate::cpu {

void default_optimized(const Executor& exec, const SsdArgs& args) {
  blocked_scan(exec, SsdSemantics::exact, args);
}

}  // namespace chunkstate::cpu
