// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/layers.hpp"
#include "core/mamba1.hpp"
#include "kernels/attention/attention.hpp"
#include "kernels/base/memory.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/rope/rope.hpp"
#include "kernels/silu_mul/silu_mul.hpp"

namespace chunkstate {
namespace {

// Rows of new keys or values behind those a sequence already has.
void append(const Executor& exec, const AnyView<2>& rows, const PackedTokens::Piece& piece,
            const AnyView<4>& cache) {
  const std::size_t row_bytes = static_cast<std::size_t>(rows.extent[1]) * bytes_of(rows.dtype);
  copy_rows(exec, cache.at(piece.sequence, piece.first_position, 0, 0), row_bytes,
            rows.at(piece.first_row, 0), row_bytes, row_bytes,
            static_cast<std::size_t>(piece.tokens));
}

// On a GPU positions are read there, so that the launches of a step serve every step.
void step_on_device(const LayerContext& context, std::size_t layer, const AnyView<2>& q,
                    const AnyView<2>& k, const AnyView<2>& v, const AnyView<2>& y) {
  const ModelConfig& config = context.config;
  const std::int64_t head_dim = config.attention_head_dim;
  for (const auto& run : context.packed.step_runs) {
    const auto rows = [&](const AnyView<2>& view, std::int64_t heads) {
      return split_last(view.slice(0, run.first_row, run.first_row + run.batch), heads, head_dim);
    };
    const std::int64_t end_sequence = run.first_sequence + run.batch;
    AttentionAppendStepArgs args;
    args.k = context.state.keys(layer).slice(0, run.first_sequence, end_sequence);
    args.v = context.state.values(layer).slice(0, run.first_sequence, end_sequence);
    args.step = {rows(q, config.attention_heads),
                 args.k,
                 args.v,
                 {context.packed.lengths.data + run.first_row, {run.batch}},
                 config.attention_scale(),
                 rows(y, config.attention_heads),
                 context.attention};
    args.new_k = rows(k, config.kv_heads);
    args.new_v = rows(v, config.kv_heads);
    args.inverse_frequency = context.inverse_frequency;
    const std::size_t mark = context.arena.mark();
    args.partials =
        context.arena.take<1>(DType::fp32, {attention_step_partials(args.step)}).as<float>();
    attention_append_step(context.exec, args);
    context.arena.release(mark);
  }
}

}  // namespace

void attention_layer(const LayerContext& context, std::size_t layer,
                     const AttentionWeights& weights, ConstAnyView<2> x, AnyView<2> residual) {
  const ModelConfig& config = context.config;
  const PackedTokens& packed = context.packed;
  const std::int64_t heads = config.attention_heads;
  const std::int64_t head_dim = config.attention_head_dim;
  const std::int64_t kv_size = config.kv_heads * head_dim;
  const std::size_t mark = context.arena.mark();
  const auto q = context.arena.take<2>(context.dtype, {packed.tokens, heads * head_dim});
  const auto k = context.arena.take<2>(context.dtype, {packed.tokens, kv_size});
  const auto v = context.arena.take<2>(context.dtype, {packed.tokens, kv_size});
  const auto y = context.arena.take<2>(context.dtype, {packed.tokens, heads * head_dim});

  const LinearArgs projections[] = {
      {x, weights.q, {}, q}, {x, weights.k, {}, k}, {x, weights.v, {}, v}};
  linear_group(context.exec, projections);
  if (context.exec.backend == Backend::cuda && !packed.step_runs.empty()) {
    step_on_device(context, layer, q, k, v, y);
    add_to_residual(context, y, weights.o, {}, residual);
    context.arena.release(mark);
    return;
  }
  const auto q_heads = split_last(q, heads, head_dim);
  const auto y_heads = split_last(y, heads, head_dim);
  rope(context.exec, {q_heads, packed.positions, context.inverse_frequency});
  rope(context.exec,
       {split_last(k, config.kv_heads, head_dim), packed.positions, context.inverse_frequency});

  const AnyView<4> keys = context.state.keys(layer);
  const AnyView<4> values = context.state.values(layer);
  const float scale = config.attention_scale();
  // The last of `queries` attends to the `length` keys of the sequence, those before it to less.
  const auto attend = [&](const AnyView<2>& queries, std::int64_t sequence, std::int64_t length,
                          const AnyView<2>& outputs) {
    AttentionArgs args{split_last(queries, heads, head_dim),
                       keys[sequence].slice(0, 0, length),
                       values[sequence].slice(0, 0, length),
                       scale,
                       split_last(outputs, heads, head_dim),
                       context.attention};
    const std::size_t scores_mark = context.arena.mark();
    args.scores = context.arena.take<1>(DType::fp32, {attention_scores(context.exec.backend, args)})
                      .as<float>();
    attention(context.exec, args);
    context.arena.release(scores_mark);
  };
  for (const auto& piece : packed.pieces) {
    append(context.exec, k, piece, keys);
    append(context.exec, v, piece, values);
    if (!packed.step_runs.empty()) continue;
    const std::int64_t end_row = piece.first_row + piece.tokens;
    const std::int64_t length = piece.first_position + piece.tokens;
    if (context.split == nullptr) {
      attend(q.slice(0, piece.first_row, end_row), piece.sequence, length,
             y.slice(0, piece.first_row, end_row));
      continue;
    }
    SequenceSplit& split = *context.split;  // which has one piece
    split.exchange_rows(keys[piece.sequence], values[piece.sequence], q);
    const std::int64_t given = split.given_tokens();
    attend(q.slice(0, given, end_row), piece.sequence, length, y.slice(0, given, end_row));
    if (split.taken_tokens().size() > 0) {
      attend(split.taken_queries(), piece.sequence, split.taken_tokens().end,
             split.taken_outputs());
    }
    split.exchange_outputs(y);
  }
  for (const auto& run : packed.step_runs) {
    const std::int64_t end_row = run.first_row + run.batch;
    const std::int64_t end_sequence = run.first_sequence + run.batch;
    attention_step(context.exec, {q_heads.slice(0, run.first_row, end_row),
                                  keys.slice(0, run.first_sequence, end_sequence),
                                  values.slice(0, run.first_sequence, end_sequence),
                                  {packed.lengths.data + run.first_row, {run.batch}},
                                  scale,
                                  y_heads.slice(0, run.first_row, end_row)});
  }
  add_to_residual(context, y, weights.o, {}, residual);
  context.arena.release(mark);
}

void add_to_residual(const LayerContext& context, ConstAnyView<2> x, ConstAnyView<2> weight,
                     ConstAnyView<1> bias, AnyView<2> residual) {
  // The sum over ranks takes the place of the residual: one of them has added the old one.
  const bool accumulate = context.tensor == nullptr || context.tensor->is_first();
  linear(context.exec, {x, weight, bias, residual, accumulate, context.config.residual_multiplier});
  if (context.tensor != nullptr) context.tensor->sum(context.exec, residual);
}

void mlp_layer(const LayerContext& context, const MlpWeights& weights, ConstAnyView<2> x,
               AnyView<2> residual) {
  const std::int64_t tokens = context.packed.tokens;
  const std::int64_t channels = context.config.intermediate_size;
  const std::size_t mark = context.arena.mark();
  AnyView<2> gate, up;
  if (weights.gate_up) {
    const auto both = context.arena.take<2>(context.dtype, {tokens, 2 * channels});
    linear(context.exec, {x, weights.gate_up, {}, both});
    gate = both.slice(1, 0, channels);
    up = both.slice(1, channels, 2 * channels);
  } else {
    gate = context.arena.take<2>(context.dtype, {tokens, channels});
    up = context.arena.take<2>(context.dtype, {tokens, channels});
    const LinearArgs projections[] = {{x, weights.gate, {}, gate}, {x, weights.up, {}, up}};
    linear_group(context.exec, projections);
  }
  silu_mul(context.exec, {gate, up, gate});
  add_to_residual(context, gate, weights.down, {}, residual);
  context.arena.release(mark);
}

std::size_t attention_scores_arena_bytes(const ModelConfig& config, Backend backend, DType dtype,
                                         const AttentionChoice& attention, std::int64_t tokens,
                                         std::int64_t keys) {
  AttentionArgs args;  // sizes alone
  args.q.dtype = dtype;
  args.q.extent = {tokens, config.attention_heads, config.attention_head_dim};
  args.k.extent = {keys, config.kv_heads, config.attention_head_dim};
  args.choice = attention;
  return Arena::padded(attention_scores(backend, args), DType::fp32);
}

std::size_t attention_step_arena_bytes(const ModelConfig& config, const AttentionChoice& attention,
                                       std::int64_t batch, std::int64_t capacity) {
  AttentionStepArgs args;  // sizes alone
  args.choice = attention;
  args.q.extent = {batch, config.attention_heads, config.attention_head_dim};
  args.k.extent = {batch, capacity, config.kv_heads, config.attention_head_dim};
  return Arena::padded(attention_step_partials(args), DType::fp32);
}

std::size_t layer_arena_bytes(const ModelConfig& config, DType dtype, std::int64_t tokens) {
  const auto bytes = [&](std::int64_t channels) { return Arena::padded(tokens * channels, dtype); };
  const std::int64_t q_size = config.attention_heads * config.attention_head_dim;
  const std::int64_t kv_size = config.kv_heads * config.attention_head_dim;
  const std::size_t mamba = bytes(config.in_proj_size()) + bytes(config.conv_channels()) +
                            bytes(config.inner_size()) + Arena::padded(tokens, DType::fp32);
  const std::size_t attention = 2 * bytes(q_size) + 2 * bytes(kv_size);
  const std::size_t mlp = 2 * bytes(config.intermediate_size);
  return std::max({mamba, attention, mlp, mamba1_arena_bytes(config, dtype, tokens)});
}

}  // namespace chunkstate
