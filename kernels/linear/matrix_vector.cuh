// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/linear/linear.hpp"

namespace chunkstate::cuda {

/// The product for a few tokens, bound by reading the weight once. False, without having done
/// anything, for more tokens than that or rows that cannot be read in vectors.
bool matrix_vector(const LinearArgs& args, CUstream_st* stream);

}  // namespace chunkstate::cuda
