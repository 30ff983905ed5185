// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/ssd/ssd.hpp"

namespace chunkstate::cpu {

/// The scan of any causal semantics token by token, in fp32. Threads share out heads.
void recurrent_scan(const Executor& exec, SsdSemantics semantics, const SsdArgs& args);

}  // namespace chunkstate::cpu
