// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/ssd.hpp"

namespace chunkstate::cpu {

/// The scan of any semantics in chunked form (bamba.md 2.3), fused and in fp32:
///
/// 1. For all heads at once: delta and its sums, and per block and group the scores C B^T.
/// 2. Per head, block after block, everything in the caches of one core: y from the scores with
///    their decay, y from the state, the block's own contribution to the state.
///
/// Threads share out blocks in 1 and heads in 2. Scratch is about 3 KB per token at Bamba-9B's
/// shape, for at most 4,096 tokens at a time.
void blocked_scan(const Executor& exec, SsdSemantics semantics, const SsdArgs& args);

}  // namespace chunkstate::cpu
