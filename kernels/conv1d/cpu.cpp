// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/base/bf16_rows.hpp"
#include "kernels/base/bf16_tiles.hpp"
#include "kernels/base/rows.hpp"
#include "kernels/base/simd.hpp"
#include "kernels/base/vector_math.hpp"
#include "kernels/conv1d/conv1d.hpp"

namespace chunkstate::cpu {
namespace {

// A unit of work is a block of tokens by a block of channels. The channels keep the ring of input
// rows, the taps and the result in the first-level cache.
constexpr std::int64_t block_tokens = 128;
constexpr std::int64_t block_channels = 512;

/// y = silu(bias + sum_k taps[k] * rows[k]); `weight` is [taps, count].
CHUNKSTATE_MULTIVERSION
void convolve(const float* const* rows, const float* weight, const float* bias, std::int64_t taps,
              std::int64_t count, float* y) {
  if (taps == 4) {  // the models' case: the sum stays in registers
    const float* const w = weight;
    const float* const r0 = rows[0];
    const float* const r1 = rows[1];
    const float* const r2 = rows[2];
    const float* const r3 = rows[3];
#pragma omp simd
    for (std::int64_t c = 0; c < count; ++c) {
      const float sum = bias[c] + w[c] * r0[c] + w[count + c] * r1[c] + w[2 * count + c] * r2[c] +
                        w[3 * count + c] * r3[c];
      y[c] = fast_silu(sum);
    }
    return;
  }
  std::copy_n(bias, count, y);
  for (std::int64_t k = 0; k < taps; ++k) {
    const float* const w = weight + k * count;
    const float* const row = rows[k];
#pragma omp simd
    for (std::int64_t c = 0; c < count; ++c) y[c] += w[c] * row[c];
  }
#pragma omp simd
  for (std::int64_t c = 0; c < count; ++c) y[c] = fast_silu(y[c]);
}

/// The taps of channels [begin, begin + count) as [taps, count], then their bias.
void load_filter(const ConstAnyView<2>& weight, const ConstAnyView<1>& bias, std::int64_t begin,
                 std::int64_t count, float* memory) {
  const std::int64_t taps = weight.extent[1];
  dispatch(weight.dtype, [&](auto tag) {
    const auto* row = reinterpret_cast<const decltype(tag)*>(weight.at(begin, 0));
    for (std::int64_t c = 0; c < count; ++c, row += weight.stride[0]) {
      for (std::int64_t k = 0; k < taps; ++k) memory[k * count + c] = to_float(row[k]);
    }
  });
  float* const bias_row = memory + taps * count;
  std::fill_n(bias_row, count, 0.0F);
  if (bias) copy_row(bias.at(begin), bias.dtype, count, bias_row);
}

/// Where a block finds its memory: filter, bias, `taps` rows of input, one row of output.
struct Block {
  std::int64_t begin;
  std::int64_t count;
  float* filter;
  const float* bias;
  float* ring;
  float* output;

  Block(Scratch& scratch, std::int64_t taps, std::int64_t index, std::int64_t channels)
      : begin(index * block_channels), count(std::min(block_channels, channels - begin)) {
    filter = scratch.floats((2 * taps + 2) * block_channels);
    bias = filter + taps * count;
    ring = filter + (taps + 1) * block_channels;
    output = ring + taps * block_channels;
  }
};

/// Four taps, everything bf16: rows are read where they lie.
bool convolves_bf16(const Conv1dArgs& args) {
  return args.x.dtype == DType::bf16 && args.y.dtype == DType::bf16 && args.weight.extent[1] == 4 &&
         (!args.window || args.window.dtype == DType::bf16) && has_bf16_tiles();
}

void convolve_block_bf16(const Conv1dArgs& args, std::int64_t first, std::int64_t last,
                         const Block& block) {
  const auto* const zeros = reinterpret_cast<const bf16*>(block.ring);
  if (!args.window) std::fill_n(block.ring, block_channels, 0.0F);
  for (std::int64_t t = first; t < last; ++t) {
    const bf16* rows[4];
    for (std::int64_t k = 0; k < 4; ++k) {
      const std::int64_t from = t - 3 + k;
      const auto at = [&](const auto& view, std::int64_t row) {
        return reinterpret_cast<const bf16*>(view.at(row, block.begin));
      };
      rows[k] = from >= 0 ? at(args.x, from) : args.window ? at(args.window, 3 + from) : zeros;
    }
    convolve_row(rows, block.filter, block.bias, block.count,
                 reinterpret_cast<bf16*>(args.y.at(t, block.begin)));
  }
}

void convolve_block(const Conv1dArgs& args, std::int64_t first, std::int64_t last,
                    const Block& block, const float** rows) {
  if (convolves_bf16(args)) return convolve_block_bf16(args, first, last, block);
  const std::int64_t taps = args.weight.extent[1];
  // Input `t` as fp32, in its place of the ring; negative ones stand in the window.
  const auto input = [&](std::int64_t t) -> const float* {
    float* place = block.ring + (t + taps) % taps * block_channels;
    if (t >= 0) return load_row(args.x.at(t, block.begin), args.x.dtype, block.count, place);
    if (args.window) {
      return load_row(args.window.at(taps - 1 + t, block.begin), args.window.dtype, block.count,
                      place);
    }
    std::fill_n(place, block.count, 0.0F);
    return place;
  };
  for (std::int64_t k = 1; k < taps; ++k) rows[k] = input(first - taps + k);
  for (std::int64_t t = first; t < last; ++t) {
    for (std::int64_t k = 1; k < taps; ++k) rows[k - 1] = rows[k];
    rows[taps - 1] = input(t);
    std::byte* row = args.y.at(t, block.begin);
    float* y = output_row(row, args.y.dtype, block.output);
    convolve(rows, block.filter, block.bias, taps, block.count, y);
    store_row(y, block.count, row, args.y.dtype);
  }
}

/// Moves the newest taps - 1 inputs of channels [begin, begin + count) into the window. Oldest
/// first: a row is overwritten only after the older rows have read it.
void update_window(const Conv1dArgs& args, std::int64_t begin, std::int64_t count, float* row) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t history = args.weight.extent[1] - 1;
  for (std::int64_t k = 0; k < history; ++k) {
    const std::int64_t t = tokens - history + k;
    if (t >= 0) {
      copy_row(args.x.at(t, begin), args.x.dtype, count, row);
    } else {
      copy_row(args.window.at(history + t, begin), args.window.dtype, count, row);
    }
    store_row(row, count, args.window.at(k, begin), args.window.dtype);
  }
}

/// Small arrays of row pointers need no heap.
constexpr std::int64_t few_taps = 16;

}  // namespace

void conv1d(const Executor& exec, const Conv1dArgs& args) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t channels = args.x.extent[1];
  const std::int64_t taps = args.weight.extent[1];
  if (taps > few_taps) return reference::conv1d(args);
  const std::int64_t channel_blocks = (channels + block_channels - 1) / block_channels;
  const std::int64_t token_blocks = (tokens + block_tokens - 1) / block_tokens;
#pragma omp parallel num_threads(exec.threads) if (tokens * channels > 4096)
  {
    thread_local Scratch scratch;
    const float* rows[few_taps];
#pragma omp for collapse(2)
    for (std::int64_t c = 0; c < channel_blocks; ++c) {
      for (std::int64_t b = 0; b < token_blocks; ++b) {
        const Block block(scratch, taps, c, channels);
        load_filter(args.weight, args.bias, block.begin, block.count, block.filter);
        convolve_block(args, b * block_tokens, std::min((b + 1) * block_tokens, tokens), block,
                       rows);
      }
    }
    // All blocks have read the window: the loop above ends with a barrier.
    if (args.window) {
#pragma omp for
      for (std::int64_t c = 0; c < channel_blocks; ++c) {
        const Block block(scratch, taps, c, channels);
        update_window(args, block.begin, block.count, block.output);
      }
    }
  }
}

void conv1d_step(const Executor& exec, const Conv1dStepArgs& args) {
  const std::int64_t batch = args.x.extent[0];
  const std::int64_t channels = args.x.extent[1];
  const std::int64_t taps = args.weight.extent[1];
  if (taps > few_taps) return reference::conv1d_step(args);
  const std::int64_t channel_blocks = (channels + block_channels - 1) / block_channels;
#pragma omp parallel num_threads(exec.threads) if (channels > 4096)
  {
    thread_local Scratch scratch;
    const float* rows[few_taps];
#pragma omp for
    for (std::int64_t c = 0; c < channel_blocks; ++c) {
      const Block block(scratch, taps, c, channels);
      load_filter(args.weight, args.bias, block.begin, block.count, block.filter);
      for (std::int64_t b = 0; b < batch; ++b) {
        const Conv1dArgs one{.x = args.x.slice(0, b, b + 1),
                             .weight = args.weight,
                             .bias = args.bias,
                             .window = args.window[b],
                             .y = args.y.slice(0, b, b + 1)};
        convolve_block(one, 0, 1, block, rows);
        update_window(one, block.begin, block.count, block.output);
      }
    }
  }
}

}  // namespace chunkstate::cpu
