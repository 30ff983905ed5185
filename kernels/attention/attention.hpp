// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

/// Causal attention of one sequence's newest `tokens` over all its `keys` (cached ones included).
/// Query head h reads kv head h / (heads / kv_heads).
struct AttentionArgs {
  ConstAnyView<3> q;   // [tokens, heads, head_dim]
  ConstAnyView<3> k;   // [keys, kv_heads, head_dim], keys >= tokens
  ConstAnyView<3> v;   // [keys, kv_heads, head_dim]
  float scale = 1.0F;  // usually 1 / sqrt(head_dim)
  AnyView<3> y;        // [tokens, heads, head_dim]
};

/// y_t = softmax(scale q_t k^T) v over keys [0, keys - tokens + t]. fp32 inside (reference:
/// double). Throws ShapeError, BackendError. Asynchronous on Backend::cuda.
void attention(const Executor& exec, const AttentionArgs& args);

/// One token of each of `batch` sequences.
struct AttentionStepArgs {
  ConstAnyView<3> q;                    // [batch, heads, head_dim]
  ConstAnyView<4> k;                    // [batch, capacity, kv_heads, head_dim]
  ConstAnyView<4> v;                    // [batch, capacity, kv_heads, head_dim]
  View<const std::int64_t, 1> lengths;  // [batch]  keys to attend to, the current one included
  float scale = 1.0F;
  AnyView<3> y;  // [batch, heads, head_dim]
};

void attention_step(const Executor& exec, const AttentionStepArgs& args);

namespace reference {
void attention(const AttentionArgs& args);
void attention_step(const AttentionStepArgs& args);
}  // namespace reference
namespace cpu {
void attention(const Executor& exec, const AttentionArgs& args);
void attention_step(const Executor& exec, const AttentionStepArgs& args);
}  // namespace cpu
namespace cuda {
void attention(const AttentionArgs& args, CUstream_st* stream);
void attention_step(const AttentionStepArgs& args, CUstream_st* stream);
}  // namespace cuda

}  // namespace chunkstate
