// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/attention/attention.hpp"

namespace chunkstate::cpu {

/// Whether attention of these can run in products of bf16: q, k and v are bf16, y is bf16 or fp32,
/// the method is flash, and has_bf16_tiles().
bool tile_attention_applies(const AttentionArgs& args);

/// attention() by panels of bf16: scores, their softmax and all sums in fp32, the weights of the
/// values rounded to bf16. A block of keys (`block_keys`) is packed for about 256 rows of queries.
void tile_attention(const Executor& exec, const AttentionArgs& args, std::int64_t block_keys);

}  // namespace chunkstate::cpu
