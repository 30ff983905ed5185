// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/base/executor.hpp"

namespace chunkstate {

/// Multiplies panels of bf16 that stay in the first cache, over and over, on all threads: the
/// ceiling of every product. The numbers are random, since zeros cost less power and run faster.
/// Returns the FLOPs done, milliseconds' worth. `b_streams`: as in PanelProduct; which is faster
/// depends on the machine. Requires has_bf16_tiles().
double probe_tiles(const Executor& exec, bool b_streams);

}  // namespace chunkstate
