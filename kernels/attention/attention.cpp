// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/attention.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/launches.hpp"

namespace chunkstate {
namespace {

void check_heads(const char* op, std::int64_t heads, std::int64_t kv_heads) {
  if (kv_heads < 1 || heads % kv_heads != 0) {
    throw ShapeError(std::string(op) + ": q has " + std::to_string(heads) +
                     " heads, expected a multiple of the " + std::to_string(kv_heads) +
                     " heads of k");
  }
}

}  // namespace

void attention(const Executor& exec, const AttentionArgs& args) {
  const auto [tokens, heads, head_dim] = args.q.extent;
  const std::int64_t keys = args.k.extent[0];
  const std::int64_t kv_heads = args.k.extent[1];
  check_shape("attention", "q", args.q, {tokens, heads, head_dim}, "tokens x heads x head_dim");
  check_shape("attention", "k", args.k, {keys, kv_heads, head_dim}, "keys x kv_heads x head_dim");
  check_shape("attention", "v", args.v, {keys, kv_heads, head_dim}, "keys x kv_heads x head_dim");
  check_shape("attention", "y", args.y, {tokens, heads, head_dim}, "tokens x heads x head_dim");
  check_heads("attention", heads, kv_heads);
  if (keys < tokens) {
    throw ShapeError("attention: k has " + std::to_string(keys) + " keys, expected at least the " +
                     std::to_string(tokens) + " tokens of q");
  }
  const std::int64_t block = args.choice.block_keys;
  if (block != 0 && block != 32 && block != 64 && block != 128) {
    throw ShapeError("attention: block_keys is " + std::to_string(block) +
                     ", expected 32, 64, 128 or 0");
  }
  if (args.scores.extent[0] < attention_scores(exec.backend, args)) {
    throw ShapeError("attention: scores is shorter than attention_scores");
  }
  count_launches();
  switch (exec.backend) {
    case Backend::reference:
      return reference::attention(args);
    case Backend::cpu:
      return cpu::attention(exec, args);
    case Backend::cuda:
      if constexpr (CHUNKSTATE_HAS_CUDA) return cuda::attention(args, exec.stream);
  }
  throw BackendError("attention", exec.backend);
}

std::string attention_provider(const Executor& exec, const AttentionArgs& args) {
  if constexpr (CHUNKSTATE_HAS_CUDA) {
    if (exec.backend == Backend::cuda) return cuda::attention_provider(args);
  }
  return std::string(name_of(exec.backend));
}

std::int64_t attention_scores(Backend backend, const AttentionArgs& args) {
  if (args.choice.method != AttentionMethod::naive || backend == Backend::reference) return 0;
  if (backend == Backend::cpu) return cpu::attention_scores(args);
  if constexpr (CHUNKSTATE_HAS_CUDA) return cuda::attention_scores(args);
  throw BackendError("attention", backend);
}

void attention_step(const Executor& exec, const AttentionStepArgs& args) {
  const auto [batch, heads, head_dim] = args.q.extent;
  const std::int64_t capacity = args.k.extent[1];
  const std::int64_t kv_heads = args.k.extent[2];
  check_shape("attention_step", "q", args.q, {batch, heads, head_dim}, "batch x heads x head_dim");
  check_shape("attention_step", "k", args.k, {batch, capacity, kv_heads, head_dim},
              "batch x capacity x kv_heads x head_dim");
  check_shape("attention_step", "v", args.v, {batch, capacity, kv_heads, head_dim},
              "batch x capacity x kv_heads x head_dim");
  check_shape("attention_step", "lengths", args.lengths, {batch}, "batch");
  check_shape("attention_step", "y", args.y, {batch, heads, head_dim}, "batch x heads x head_dim");
  check_heads("attention_step", heads, kv_heads);
  if (exec.backend != Backend::cuda) {  // there, lengths are device memory
    for (std::int64_t b = 0; b < batch; ++b) {
      if (args.lengths(b) < 1 || args.lengths(b) > capacity) {
        throw ShapeError("attention_step: lengths[" + std::to_string(b) + "] is " +
                         std::to_string(args.lengths(b)) +
                         ", expected 1 to capacity = " + std::to_string(capacity));
      }
    }
  }
  count_launches();
  switch (exec.backend) {
    case Backend::reference:
      return reference::attention_step(args);
    case Backend::cpu:
      return cpu::attention_step(exec, args);
    case Backend::cuda:
      if constexpr (CHUNKSTATE_HAS_CUDA) return cuda::attention_step(args, exec.stream);
  }
  throw BackendError("attention_step", exec.backend);
}

#if !CHUNKSTATE_HAS_CUDA
std::int64_t attention_step_partials(const AttentionStepArgs&) { return 0; }
#endif

void attention_append_step(const Executor& exec, const AttentionAppendStepArgs& args) {
  constexpr const char* op = "attention_append_step";
  const auto [batch, heads, head_dim] = args.step.q.extent;
  const std::int64_t capacity = args.k.extent[1], kv_heads = args.k.extent[2];
  const char* const cache = "batch x capacity x kv_heads x head_dim";
  check_shape(op, "q", args.step.q, {batch, heads, head_dim}, "batch x heads x head_dim");
  check_shape(op, "k", args.k, {batch, capacity, kv_heads, head_dim}, cache);
  check_shape(op, "v", args.v, {batch, capacity, kv_heads, head_dim}, cache);
  check_shape(op, "new_k", args.new_k, {batch, kv_heads, head_dim}, "batch x kv_heads x head_dim");
  check_shape(op, "new_v", args.new_v, {batch, kv_heads, head_dim}, "batch x kv_heads x head_dim");
  check_shape(op, "lengths", args.step.lengths, {batch}, "batch");
  check_shape(op, "y", args.step.y, {batch, heads, head_dim}, "batch x heads x head_dim");
  check_heads(op, heads, kv_heads);
  if (args.step.k.data != args.k.data || args.step.v.data != args.v.data) {
    throw ShapeError(std::string(op) + ": step.k and step.v are not k and v");
  }
  if (2 * args.inverse_frequency.extent[0] > head_dim) {
    throw ShapeError(std::string(op) + ": more pairs than half of head_dim");
  }
  if (args.partials.extent[0] < attention_step_partials(args.step)) {
    throw ShapeError(std::string(op) + ": partials is shorter than attention_step_partials");
  }
  if (exec.backend != Backend::cuda) throw BackendError(op, exec.backend);
  if constexpr (CHUNKSTATE_HAS_CUDA) cuda::attention_append_step(args, exec.stream);
}

}  // namespace chunkstate
