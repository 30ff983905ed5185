// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/recurrence.hpp"

namespace chunkstate::cpu {

void sequential(const Executor& exec, const SsdArgs& args) {
  recurrent_scan(exec, SsdSemantics::exact, args);
}

}  // namespace chunkstate::cpu
