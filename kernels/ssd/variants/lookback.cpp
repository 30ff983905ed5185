// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/blocked.hpp"

namespace chunkstate::cpu {

void lookback(const Executor& exec, const SsdArgs& args) {
  blocked_scan(exec, SsdSemantics::lookback, args);
}

}  // namespace chunkstate::cpu
