// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/attention/attention.hpp"

namespace chunkstate::cpu {

/// AttentionMethod::naive: three passes over scores [heads, tokens, keys] in fp32, with keys and
/// values of all heads converted before.
void naive_attention(const Executor& exec, const AttentionArgs& args);
/// Floats of AttentionArgs::scores.
std::int64_t naive_scores(const AttentionArgs& args);

}  // namespace chunkstate::cpu
