// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention/attention.hpp"
#include "kernels/attention/naive.hpp"
#include "kernels/attention/soften.hpp"
#include "kernels/attention/tile_attention.hpp"
#include "kernels/base/dot.hpp"
#include "kernels/base/product.hpp"
#include "kernels/base/rows.hpp"

namespace chunkstate::cpu {
namespace {

constexpr std::int64_t own_block_keys = 128;
// Query rows that share a block of keys: the heads of one kv head times so many tokens. Enough for
// the conversion of keys and values to cost little beside the products.
constexpr std::int64_t block_rows = 256;

std::int64_t block_of(const AttentionArgs& args) {
  return args.choice.block_keys > 0 ? args.choice.block_keys : own_block_keys;
}

/// A kv head's keys [begin, begin + count), as [head_dim, block_keys], and values, as
/// [count, columns], in fp32.
void load_keys(const AttentionArgs& args, std::int64_t kv, std::int64_t begin, std::int64_t count,
               std::int64_t columns, float* rows, float* keys, float* values) {
  const std::int64_t head_dim = args.q.extent[2];
  const std::int64_t block_keys = block_of(args);
  for (std::int64_t j = 0; j < count; ++j) {
    copy_row(args.k.at(begin + j, kv, 0), args.k.dtype, head_dim, rows + j * head_dim);
    copy_row(args.v.at(begin + j, kv, 0), args.v.dtype, head_dim, values + j * columns);
  }
  transpose(rows, head_dim, count, head_dim, keys, block_keys);
}

/// Tokens [first, first + tokens) of all query heads of one kv head.
struct QueryBlock {
  const AttentionArgs& args;
  std::int64_t kv;
  std::int64_t first;
  std::int64_t tokens;
  std::int64_t heads_per_kv;

  std::int64_t rows() const { return tokens * heads_per_kv; }
  std::int64_t head(std::int64_t row) const { return kv * heads_per_kv + row / tokens; }
  std::int64_t token(std::int64_t row) const { return first + row % tokens; }
  /// Keys that the row sees.
  std::int64_t visible(std::int64_t row) const {
    return args.k.extent[0] - args.q.extent[0] + token(row) + 1;
  }
};

void attend(const QueryBlock& block, Scratch& scratch) {
  const AttentionArgs& args = block.args;
  const std::int64_t block_keys = block_of(args);
  const std::int64_t head_dim = args.q.extent[2];
  const std::int64_t columns = padded(head_dim);
  const std::int64_t rows = block.rows();
  float* const q =
      scratch.floats(rows * (2 * columns + block_keys + 3) + block_keys * (columns + 2 * head_dim));
  float* const sums = q + rows * columns;
  float* const scores = sums + rows * columns;
  float* const largest = scores + rows * block_keys;
  float* const total = largest + rows;
  float* const correction = total + rows;
  float* const values = correction + rows;
  float* const keys = values + block_keys * columns;
  float* const key_rows = keys + block_keys * head_dim;
  std::fill_n(values, block_keys * columns, 0.0F);
  for (std::int64_t r = 0; r < rows; ++r) {
    float* const row = q + r * columns;
    copy_row(args.q.at(block.token(r), block.head(r), 0), args.q.dtype, head_dim, row);
    scale(row, args.scale, head_dim, row);
    largest[r] = -std::numeric_limits<float>::infinity();
    total[r] = 0.0F;
  }
  const std::int64_t last = block.visible(block.tokens - 1);  // its last token sees most keys
  for (std::int64_t begin = 0; begin < last; begin += block_keys) {
    const std::int64_t count = std::min(block_keys, last - begin);
    load_keys(args, block.kv, begin, count, columns, key_rows, keys, values);
    multiply({.rows = rows,
              .columns = count,
              .depth = head_dim,
              .a = q,
              .a_row = columns,
              .b = keys,
              .b_row = block_keys,
              .c = scores,
              .c_row = block_keys});
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::int64_t visible = std::clamp<std::int64_t>(block.visible(r) - begin, 0, count);
      correction[r] = soften(scores + r * block_keys, visible, count, largest + r, total + r);
    }
    multiply({.rows = rows,
              .columns = head_dim,
              .depth = count,
              .a = scores,
              .a_row = block_keys,
              .b = values,
              .b_row = columns,
              .c = sums,
              .c_row = columns,
              .c_factor = begin == 0 ? nullptr : correction,
              .c_factor_row = 1});
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    std::byte* const row = args.y.at(block.token(r), block.head(r), 0);
    float* const y = output_row(row, args.y.dtype, q);
    scale(sums + r * columns, 1.0F / total[r], head_dim, y);
    store_row(y, head_dim, row, args.y.dtype);
  }
}

/// Scratch of attend_one: enough for every step of a sequence.
std::int64_t step_floats(const AttentionStepArgs& args) {
  const std::int64_t columns = padded(args.q.extent[2]);
  const std::int64_t rows = args.q.extent[1] / args.k.extent[2];
  return rows * (2 * columns + padded(args.k.extent[1])) + own_block_keys * columns;
}

/// One sequence and kv head of a decode step: all its cached keys are read once, as they are
/// stored.
void attend_one(const AttentionStepArgs& args, std::int64_t b, std::int64_t kv, float* q) {
  static constexpr float one = 1.0F;
  const std::int64_t head_dim = args.q.extent[2];
  const std::int64_t columns = padded(head_dim);
  const std::int64_t rows = args.q.extent[1] / args.k.extent[2];
  const std::int64_t keys = args.lengths(b);
  const std::int64_t scores_row = padded(keys);
  float* const sums = q + rows * columns;
  float* const scores = sums + rows * columns;
  float* const value_rows = scores + rows * scores_row;
  for (std::int64_t r = 0; r < rows; ++r) {
    float* const row = q + r * columns;
    copy_row(args.q.at(b, kv * rows + r, 0), args.q.dtype, head_dim, row);
    scale(row, args.scale, head_dim, row);
  }
  const ConstAnyView<2> k(args.k.at(b, 0, kv, 0), args.k.dtype, {keys, head_dim},
                          {args.k.stride[1], 1});
  for (std::int64_t r = 0; r < rows; r += most_dot_tokens) {
    dot_rows(k, 0, keys, q + r * columns, columns, std::min(most_dot_tokens, rows - r),
             scores + r * scores_row, scores_row);
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    float largest = -std::numeric_limits<float>::infinity();
    float total = 0.0F;
    soften(scores + r * scores_row, keys, keys, &largest, &total);
    scale(scores + r * scores_row, 1.0F / total, keys, scores + r * scores_row);
  }
  // Whole lines of fp32 can be multiplied where they lie.
  const bool direct = args.v.dtype == DType::fp32 && columns == head_dim;
  for (std::int64_t begin = 0; begin < keys; begin += own_block_keys) {
    const std::int64_t count = std::min(own_block_keys, keys - begin);
    for (std::int64_t j = 0; j < count && !direct; ++j) {
      float* const row = value_rows + j * columns;
      copy_row(args.v.at(b, begin + j, kv, 0), args.v.dtype, head_dim, row);
      std::fill(row + head_dim, row + columns, 0.0F);
    }
    const std::byte* const stored = args.v.at(b, begin, kv, 0);
    multiply({.rows = rows,
              .columns = head_dim,
              .depth = count,
              .a = scores + begin,
              .a_row = scores_row,
              .b = direct ? reinterpret_cast<const float*>(stored) : value_rows,
              .b_row = direct ? args.v.stride[1] : columns,
              .c = sums,
              .c_row = columns,
              .c_factor = begin == 0 ? nullptr : &one});
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    store_row(sums + r * columns, head_dim, args.y.at(b, kv * rows + r, 0), args.y.dtype);
  }
}

}  // namespace

std::int64_t attention_scores(const AttentionArgs& args) { return naive_scores(args); }

void attention(const Executor& exec, const AttentionArgs& args) {
  if (args.choice.method == AttentionMethod::naive) return naive_attention(exec, args);
  if (tile_attention_applies(args)) return tile_attention(exec, args, block_of(args));
  const std::int64_t tokens = args.q.extent[0];
  const std::int64_t kv_heads = args.k.extent[1];
  const std::int64_t heads_per_kv = args.q.extent[1] / kv_heads;
  const std::int64_t step =
      std::max<std::int64_t>(block_rows / std::max<std::int64_t>(heads_per_kv, 1), 16);
  const std::int64_t blocks = (tokens + step - 1) / step;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(exec.threads)
  for (std::int64_t i = 0; i < blocks; ++i) {
    for (std::int64_t kv = 0; kv < kv_heads; ++kv) {
      thread_local Scratch scratch;
      const std::int64_t first = (blocks - 1 - i) * step;  // the longest rows first
      attend({args, kv, first, std::min(step, tokens - first), heads_per_kv}, scratch);
    }
  }
}

void attention_step(const Executor& exec, const AttentionStepArgs& args) {
  const std::int64_t batch = args.q.extent[0];
  const std::int64_t kv_heads = args.k.extent[2];
#pragma omp parallel num_threads(exec.threads)
  {
    thread_local Scratch scratch;
    float* const memory = scratch.floats(step_floats(args));
#pragma omp for collapse(2) schedule(dynamic)
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t kv = 0; kv < kv_heads; ++kv) attend_one(args, b, kv, memory);
    }
  }
}

}  // namespace chunkstate::cpu
