// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/naive.hpp"

#include <algorithm>
#include <limits>

#include "kernels/attention/soften.hpp"
#include "kernels/base/product.hpp"
#include "kernels/base/rows.hpp"

namespace chunkstate::cpu {
namespace {

constexpr std::int64_t block_rows = 64;    // of scores per unit of work
constexpr std::int64_t block_depth = 512;  // keys per product with the values

/// The parts of AttentionArgs::scores, all in fp32.
struct Layout {
  explicit Layout(const AttentionArgs& args)
      : tokens(args.q.extent[0]),
        heads(args.q.extent[1]),
        head_dim(args.q.extent[2]),
        keys(args.k.extent[0]),
        kv_heads(args.k.extent[1]),
        row(padded(keys)),
        columns(padded(head_dim)) {}

  float* scores(const AttentionArgs& args, std::int64_t head, std::int64_t token) const {
    return args.scores.data + (head * tokens + token) * row;
  }
  float* turned_keys(const AttentionArgs& args, std::int64_t kv) const {  // [head_dim, row]
    return args.scores.data + heads * tokens * row + kv * head_dim * row;
  }
  float* values(const AttentionArgs& args, std::int64_t kv) const {  // [keys, columns]
    return args.scores.data + (heads * tokens + kv_heads * head_dim) * row + kv * keys * columns;
  }
  std::int64_t floats() const {
    return (heads * tokens + kv_heads * head_dim) * row + kv_heads * keys * columns;
  }

  std::int64_t tokens, heads, head_dim, keys, kv_heads, row, columns;
};

void convert_keys(const AttentionArgs& args, const Layout& layout, std::int64_t kv,
                  std::int64_t begin, std::int64_t count) {
  thread_local Scratch scratch;
  float* const rows = scratch.floats(count * layout.head_dim);
  for (std::int64_t j = 0; j < count; ++j) {
    copy_row(args.k.at(begin + j, kv, 0), args.k.dtype, layout.head_dim,
             rows + j * layout.head_dim);
    float* const value = layout.values(args, kv) + (begin + j) * layout.columns;
    copy_row(args.v.at(begin + j, kv, 0), args.v.dtype, layout.head_dim, value);
    std::fill(value + layout.head_dim, value + layout.columns, 0.0F);
  }
  transpose(rows, layout.head_dim, count, layout.head_dim, layout.turned_keys(args, kv) + begin,
            layout.row);
}

void score(const AttentionArgs& args, const Layout& layout, std::int64_t head, std::int64_t first,
           std::int64_t count) {
  thread_local Scratch scratch;
  float* const q = scratch.floats(count * layout.columns);
  for (std::int64_t r = 0; r < count; ++r) {
    copy_row(args.q.at(first + r, head, 0), args.q.dtype, layout.head_dim, q + r * layout.columns);
    scale(q + r * layout.columns, args.scale, layout.head_dim, q + r * layout.columns);
  }
  multiply({.rows = count,
            .columns = layout.keys,
            .depth = layout.head_dim,
            .a = q,
            .a_row = layout.columns,
            .b = layout.turned_keys(args, head / (layout.heads / layout.kv_heads)),
            .b_row = layout.row,
            .c = layout.scores(args, head, first),
            .c_row = layout.row});
}

void normalise(const AttentionArgs& args, const Layout& layout, std::int64_t head,
               std::int64_t token) {
  float* const row = layout.scores(args, head, token);
  float largest = -std::numeric_limits<float>::infinity();
  float total = 0.0F;
  soften(row, layout.keys - layout.tokens + token + 1, layout.keys, &largest, &total);
  scale(row, 1.0F / total, layout.keys, row);
}

void weigh(const AttentionArgs& args, const Layout& layout, std::int64_t head, std::int64_t first,
           std::int64_t count) {
  static constexpr float one = 1.0F;
  thread_local Scratch scratch;
  float* const sums = scratch.floats(count * layout.columns);
  const float* const values = layout.values(args, head / (layout.heads / layout.kv_heads));
  for (std::int64_t begin = 0; begin < layout.keys; begin += block_depth) {
    multiply({.rows = count,
              .columns = layout.head_dim,
              .depth = std::min(block_depth, layout.keys - begin),
              .a = layout.scores(args, head, first) + begin,
              .a_row = layout.row,
              .b = values + begin * layout.columns,
              .b_row = layout.columns,
              .c = sums,
              .c_row = layout.columns,
              .c_factor = begin == 0 ? nullptr : &one});
  }
  for (std::int64_t r = 0; r < count; ++r) {
    store_row(sums + r * layout.columns, layout.head_dim, args.y.at(first + r, head, 0),
              args.y.dtype);
  }
}

}  // namespace

std::int64_t naive_scores(const AttentionArgs& args) { return Layout(args).floats(); }

void naive_attention(const Executor& exec, const AttentionArgs& args) {
  const Layout layout(args);
  const std::int64_t key_blocks = (layout.keys + block_depth - 1) / block_depth;
  const std::int64_t row_blocks = (layout.tokens + block_rows - 1) / block_rows;
#pragma omp parallel num_threads(exec.threads)
  {
#pragma omp for collapse(2)
    for (std::int64_t kv = 0; kv < layout.kv_heads; ++kv) {
      for (std::int64_t block = 0; block < key_blocks; ++block) {
        const std::int64_t begin = block * block_depth;
        convert_keys(args, layout, kv, begin, std::min(block_depth, layout.keys - begin));
      }
    }
#pragma omp for collapse(2)
    for (std::int64_t head = 0; head < layout.heads; ++head) {
      for (std::int64_t block = 0; block < row_blocks; ++block) {
        const std::int64_t first = block * block_rows;
        score(args, layout, head, first, std::min(block_rows, layout.tokens - first));
      }
    }
#pragma omp for collapse(2)
    for (std::int64_t head = 0; head < layout.heads; ++head) {
      for (std::int64_t token = 0; token < layout.tokens; ++token) {
        normalise(args, layout, head, token);
      }
    }
#pragma omp for collapse(2)
    for (std::int64_t head = 0; head < layout.heads; ++head) {
      for (std::int64_t block = 0; block < row_blocks; ++block) {
        const std::int64_t first = block * block_rows;
        weigh(args, layout, head, first, std::min(block_rows, layout.tokens - first));
      }
    }
  }
}

}  // namespace chunkstate::cpu
