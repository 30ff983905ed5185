// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/attention/attention.hpp"

namespace chunkstate::cuda {

/// AttentionMethod::naive: per head a matrix product into scores [heads, tokens, keys] of q's type,
/// their softmax in place, and a product with the values, which are turned before.
void naive_attention(const AttentionArgs& args, CUstream_st* stream);
/// Floats of AttentionArgs::scores.
std::int64_t naive_scores(const AttentionArgs& args);

}  // namespace chunkstate::cuda
