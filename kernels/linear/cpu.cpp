// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/base/dot.hpp"
#include "kernels/base/instruction_level.hpp"
#include "kernels/base/product.hpp"
#include "kernels/base/rows.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/linear/tile_linear.hpp"

namespace chunkstate::cpu {
namespace {

// All blocks are fixed, so that threads change no result.
constexpr std::int64_t few_tokens_limit = same_sums_tokens;  // dot_rows is the faster way
constexpr std::int64_t dot_block = 32;      // its rows of the weight per unit of work
constexpr std::int64_t block_rows = 64;     // beyond: rows of the weight per unit of work
constexpr std::int64_t block_depth = 512;   // with panel_tokens: 64 KiB of x
constexpr std::int64_t panel_tokens = 32;   // columns of a packed panel of x
constexpr std::int64_t most_tokens = 1024;  // per pass over the weights: bounds the packed x

constexpr std::int64_t blocks_of(std::int64_t count, std::int64_t block) {
  return (count + block - 1) / block;
}

/// y[t, begin ...] = scale (values + bias) (+ y), rounded once. `old` is scratch.
void finish_row(const LinearArgs& args, std::int64_t t, std::int64_t begin, std::int64_t count,
                float* values, float* old) {
  std::byte* row = args.y.at(t, begin);
  if (args.bias) {
    const float* bias = load_row(args.bias.at(begin), args.bias.dtype, count, old);
    for (std::int64_t o = 0; o < count; ++o) values[o] += bias[o];
  }
  if (args.scale != 1.0F) {
    for (std::int64_t o = 0; o < count; ++o) values[o] *= args.scale;
  }
  if (args.accumulate) {
    const float* y = load_row(row, args.y.dtype, count, old);
    for (std::int64_t o = 0; o < count; ++o) values[o] += y[o];
  }
  store_row(values, count, row, args.y.dtype);
}

/// Rows [begin, begin + count) of one product's weight, for all tokens. `x`: fp32 rows, used unless
/// `dots` (both stored as bf16).
void dot_outputs(const LinearArgs& args, std::int64_t begin, std::int64_t count, bool dots,
                 const float* x, std::int64_t x_row) {
  const std::int64_t tokens = args.x.extent[0];
  float sums[most_dot_tokens * dot_block];
  float old[dot_block];
  for (std::int64_t first = 0; first < tokens; first += most_dot_tokens) {
    const std::int64_t group = std::min(most_dot_tokens, tokens - first);
    if (dots) {
      dot_rows(args.weight, begin, count, reinterpret_cast<const bf16*>(args.x.at(first, 0)),
               args.x.stride[0], group, sums, dot_block);
    } else {
      dot_rows(args.weight, begin, count, x + first * x_row, x_row, group, sums, dot_block);
    }
    for (std::int64_t t = 0; t < group; ++t) {
      finish_row(args, first + t, begin, count, sums + t * dot_block, old);
    }
  }
}

/// Decode: bound by reading the weights, which happens once.
void few_tokens(const Executor& exec, std::span<const LinearArgs> products) {
  const ConstAnyView<2>& stored = products[0].x;
  const std::int64_t tokens = stored.extent[0];
  const std::int64_t in_features = stored.extent[1];
  const auto dots = [&](const LinearArgs& args) {
    return stored.dtype == DType::bf16 && args.weight.dtype == DType::bf16 && has_bf16_dot();
  };
  const bool direct =
      stored.dtype == DType::fp32 || std::all_of(products.begin(), products.end(), dots);
  thread_local Scratch shared;
  const std::int64_t x_row = direct ? stored.stride[0] : padded(in_features);
  float* const copy = shared.floats(direct ? 1 : tokens * x_row);
  for (std::int64_t t = 0; t < tokens && !direct; ++t) {
    copy_row(stored.at(t, 0), stored.dtype, in_features, copy + t * x_row);
  }
  const float* const x = direct ? reinterpret_cast<const float*>(stored.data) : copy;
  std::int64_t blocks = 0;
  for (const LinearArgs& args : products) blocks += blocks_of(args.weight.extent[0], dot_block);
    // Large parts first, so that rows follow each other, small ones last: a core that others
    // disturb is not waited for.
#pragma omp parallel for num_threads(exec.threads) schedule(guided) if (blocks > 1)
  for (std::int64_t block = 0; block < blocks; ++block) {
    std::int64_t in_product = block;
    const LinearArgs* args = products.data();
    while (in_product >= blocks_of(args->weight.extent[0], dot_block)) {
      in_product -= blocks_of(args->weight.extent[0], dot_block);
      ++args;
    }
    const std::int64_t begin = in_product * dot_block;
    dot_outputs(*args, begin, std::min(dot_block, args->weight.extent[0] - begin), dots(*args), x,
                x_row);
  }
}

/// x of tokens [first, first + count) as panels [panel][in_features][panel_tokens] of fp32, so that
/// a product's columns are tokens: the weights then need no packing. Missing tokens are zero.
void pack_panel(const LinearArgs& args, std::int64_t first, std::int64_t count, std::int64_t begin,
                std::int64_t depth, float* rows, float* panel) {
  for (std::int64_t t = 0; t < count; ++t) {
    copy_row(args.x.at(first + t, begin), args.x.dtype, depth, rows + t * block_depth);
  }
  std::fill(rows + count * block_depth, rows + panel_tokens * block_depth, 0.0F);
  transpose(rows, block_depth, panel_tokens, depth, panel + begin * panel_tokens, panel_tokens);
}

/// Rows [begin, begin + rows) of the weight times the packed tokens, into sums [rows, sums_row].
void multiply_block(const LinearArgs& args, std::int64_t begin, std::int64_t rows,
                    const float* packed, std::int64_t tokens, float* weight_copy, float* sums,
                    std::int64_t sums_row) {
  static constexpr float one = 1.0F;
  const std::int64_t in_features = args.x.extent[1];
  const bool direct = args.weight.dtype == DType::fp32;
  for (std::int64_t k = 0; k < in_features; k += block_depth) {
    const std::int64_t depth = std::min(block_depth, in_features - k);
    const std::byte* const stored = args.weight.at(begin, k);
    for (std::int64_t o = 0; o < rows && !direct; ++o) {
      copy_row(args.weight.at(begin + o, k), args.weight.dtype, depth,
               weight_copy + o * block_depth);
    }
    for (std::int64_t t = 0; t < tokens; t += panel_tokens) {
      multiply({.rows = rows,
                .columns = std::min(panel_tokens, tokens - t),
                .depth = depth,
                .a = direct ? reinterpret_cast<const float*>(stored) : weight_copy,
                .a_row = direct ? args.weight.stride[0] : block_depth,
                .b = packed + (t * in_features + k * panel_tokens),
                .b_row = panel_tokens,
                .c = sums + t,
                .c_row = sums_row,
                .c_factor = k == 0 ? nullptr : &one});
    }
  }
}

/// One pass over the weights for tokens [first, first + tokens).
void many_tokens(const Executor& exec, const LinearArgs& args, std::int64_t first,
                 std::int64_t tokens) {
  const std::int64_t in_features = args.x.extent[1];
  const std::int64_t out_features = args.weight.extent[0];
  const std::int64_t panels = blocks_of(tokens, panel_tokens);
  const std::int64_t depth_blocks = blocks_of(in_features, block_depth);
  const std::int64_t row_blocks = blocks_of(out_features, block_rows);
  const std::int64_t sums_row = panels * panel_tokens;
  thread_local Scratch shared;
  float* const packed = shared.floats(sums_row * in_features);
#pragma omp parallel num_threads(exec.threads)
  {
    thread_local Scratch scratch;
    float* const copy = scratch.floats(block_rows * (block_depth + sums_row + panel_tokens + 1));
    float* const sums = copy + block_rows * block_depth;
    float* const turned = sums + block_rows * sums_row;
    float* const old = turned + block_rows * panel_tokens;
#pragma omp for collapse(2)
    for (std::int64_t panel = 0; panel < panels; ++panel) {
      for (std::int64_t block = 0; block < depth_blocks; ++block) {
        const std::int64_t t = panel * panel_tokens;
        const std::int64_t k = block * block_depth;
        pack_panel(args, first + t, std::min(panel_tokens, tokens - t), k,
                   std::min(block_depth, in_features - k), copy, packed + t * in_features);
      }
    }
#pragma omp for schedule(dynamic)
    for (std::int64_t block = 0; block < row_blocks; ++block) {
      const std::int64_t begin = block * block_rows;
      const std::int64_t rows = std::min(block_rows, out_features - begin);
      multiply_block(args, begin, rows, packed, tokens, copy, sums, sums_row);
      for (std::int64_t t = 0; t < tokens; t += panel_tokens) {
        const std::int64_t count = std::min(panel_tokens, tokens - t);
        transpose(sums + t, sums_row, rows, count, turned, block_rows);
        for (std::int64_t i = 0; i < count; ++i) {
          finish_row(args, first + t + i, begin, rows, turned + i * block_rows, old);
        }
      }
    }
  }
}

}  // namespace

void linear(const Executor& exec, std::span<const LinearArgs> products) {
  if (products.empty() || products[0].x.extent[0] == 0) return;
  const std::int64_t tokens = products[0].x.extent[0];
  instruction_level();  // throws for a wrong CHUNKSTATE_ISA here, not inside a parallel region
  if (tokens <= few_tokens_limit || products[0].x.extent[1] == 0) {
    return few_tokens(exec, products);
  }
  if (std::all_of(products.begin(), products.end(), tile_linear_applies)) {
    return tile_linear(exec, products);
  }
  for (const LinearArgs& args : products) {
    if (tile_linear_applies(args)) {
      tile_linear(exec, {&args, 1});
      continue;
    }
    for (std::int64_t first = 0; first < tokens; first += most_tokens) {
      many_tokens(exec, args, first, std::min(most_tokens, tokens - first));
    }
  }
}

}  // namespace chunkstate::cpu
