// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/ssd.hpp"

namespace chunkstate {

/// What a scan has to do at least; for rates and rooflines.
struct SsdCost {
  double flops;  // a multiply-add counts as 2
  double bytes;  // x, dt, B, C read once, y written once, the state read and written if given
};

/// The cost of one call; only the shapes and storage types of `args` are read. The flops are those
/// of the chunked form with causal skipping (S1 scores, S2 pairs, S3 and S5 state; exponentials and
/// elementwise work not counted) for blocks as plan_blocks cuts them. They depend on the semantics
/// alone, so that the rates of variants of one semantics compare as their times do.
SsdCost ssd_cost(const SsdVariant& variant, const SsdArgs& args);

}  // namespace chunkstate
