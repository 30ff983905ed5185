// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/linear/linear.hpp"

namespace chunkstate::cuda {

/// The product through cuBLASLt. False, without having done anything, where the library has no
/// algorithm: storage types that it does not combine, a bias, or addresses it does not take.
/// fp32 operands give true fp32 (no tf32). Sums are fp32 and ordered: no reduction through atomics.
/// The algorithm is the library's favourite; with `autotune` the fastest of its offers, searched
/// once per product and kept in an AlgorithmCache.
bool linear_by_library(const LinearArgs& args, CUstream_st* stream, bool autotune);

}  // namespace chunkstate::cuda
