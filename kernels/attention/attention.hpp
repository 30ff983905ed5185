// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

/// `flash` keeps a block of scores at a time and never writes them to memory; `naive` writes the
/// scores of all heads, tokens and keys, then their softmax, then reads them back for the values:
/// what a framework without a fused operator does, as a baseline. Rounding differs, nothing else.
enum class AttentionMethod : std::uint8_t { flash, naive };

struct AttentionChoice {
  AttentionMethod method = AttentionMethod::flash;
  /// Keys that `flash` takes at a time: 32, 64 or 128; 0: the kernel's own number. Of many tokens
  /// on Backend::cpu, and of 16-bit ones on Backend::cuda (there 0 leaves them to cuDNN if it has a
  /// plan); elsewhere without effect.
  std::int64_t block_keys = 0;
};

/// Causal attention of one sequence's newest `tokens` over all its `keys` (cached ones included).
/// Query head h reads kv head h / (heads / kv_heads).
struct AttentionArgs {
  ConstAnyView<3> q;   // [tokens, heads, head_dim]
  ConstAnyView<3> k;   // [keys, kv_heads, head_dim], keys >= tokens
  ConstAnyView<3> v;   // [keys, kv_heads, head_dim]
  float scale = 1.0F;  // usually 1 / sqrt(head_dim)
  AnyView<3> y;        // [tokens, heads, head_dim]
  AttentionChoice choice;
  View<float, 1> scores;  // attention_scores() floats of scratch
};
/// 0 for `flash`.
std::int64_t attention_scores(Backend backend, const AttentionArgs& args);

/// y_t = softmax(scale q_t k^T) v over keys [0, keys - tokens + t]. fp32 inside (reference:
/// double). Throws ShapeError, BackendError. Asynchronous on Backend::cuda.
void attention(const Executor& exec, const AttentionArgs& args);

/// Who computed the last attention() with these shapes and types: on Backend::cuda "cuDNN 9.14.0",
/// or "own kernel (why not cuDNN)"; elsewhere the backend's name.
std::string attention_provider(const Executor& exec, const AttentionArgs& args);

/// One token of each of `batch` sequences.
struct AttentionStepArgs {
  ConstAnyView<3> q;                    // [batch, heads, head_dim]
  ConstAnyView<4> k;                    // [batch, capacity, kv_heads, head_dim]
  ConstAnyView<4> v;                    // [batch, capacity, kv_heads, head_dim]
  View<const std::int64_t, 1> lengths;  // [batch]  keys to attend to, the current one included
  float scale = 1.0F;
  AnyView<3> y;            // [batch, heads, head_dim]
  AttentionChoice choice;  // method alone counts: on Backend::cuda, for attention_append_step
};

void attention_step(const Executor& exec, const AttentionStepArgs& args);

/// attention_step with what comes before it: `step.q` and the new keys are rotated (rope) at
/// position lengths - 1, and the new key and value are appended to `k` and `v` there.
struct AttentionAppendStepArgs {
  AttentionStepArgs step;  // step.q: not rotated; step.k and step.v: keys and values below
  AnyView<4> k;            // [batch, capacity, kv_heads, head_dim]
  AnyView<4> v;            // [batch, capacity, kv_heads, head_dim]
  ConstAnyView<3> new_k;   // [batch, kv_heads, head_dim]  not rotated
  ConstAnyView<3> new_v;   // [batch, kv_heads, head_dim]
  View<const float, 1> inverse_frequency;  // [pairs], as rope's
  View<float, 1> partials;                 // attention_step_partials() floats of scratch
};
std::int64_t attention_step_partials(const AttentionStepArgs& args);

/// Backend::cuda only.
void attention_append_step(const Executor& exec, const AttentionAppendStepArgs& args);

namespace reference {
void attention(const AttentionArgs& args);
void attention_step(const AttentionStepArgs& args);
}  // namespace reference
namespace cpu {
std::int64_t attention_scores(const AttentionArgs& args);
void attention(const Executor& exec, const AttentionArgs& args);
void attention_step(const Executor& exec, const AttentionStepArgs& args);
}  // namespace cpu
namespace cuda {
std::int64_t attention_scores(const AttentionArgs& args);
void attention(const AttentionArgs& args, CUstream_st* stream);
std::string attention_provider(const AttentionArgs& args);
void attention_step(const AttentionStepArgs& args, CUstream_st* stream);
void attention_append_step(const AttentionAppendStepArgs& args, CUstream_st* stream);
}  // namespace cuda

}  // namespace chunkstate
