// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/ssd.hpp"

namespace chunkstate::cuda {

/// The fused scan on Hopper's tensor cores. False, without having done anything, on other devices
/// and for other shapes: bf16 x, dt, B, C and y, head_dim 64, state_dim 128, rows that the copy
/// engine takes; for semantics that forget, chunks and first positions that are multiples of 64
/// tokens.
bool ssd_hopper(SsdSemantics semantics, const SsdArgs& args, CUstream_st* stream);

}  // namespace chunkstate::cuda
