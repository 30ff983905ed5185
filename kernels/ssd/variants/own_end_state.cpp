// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/blocked.hpp"

namespace chunkstate::cpu {

void own_end_state(const Executor& exec, const SsdArgs& args) {
  blocked_scan(exec, SsdSemantics::own_end_state, args);
}

}  // namespace chunkstate::cpu
