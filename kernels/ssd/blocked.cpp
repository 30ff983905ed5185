// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/blocked.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "kernels/base/bf16_tiles.hpp"
#include "kernels/base/product.hpp"
#include "kernels/base/rows.hpp"
#include "kernels/ssd/decay.hpp"
#include "kernels/ssd/head_scan.hpp"
#include "kernels/ssd/head_states.hpp"
#include "kernels/ssd/plan.hpp"
#include "kernels/ssd/recurrence.hpp"
#include "kernels/ssd/tile_steps.hpp"

namespace chunkstate::cpu {
namespace {

constexpr std::int64_t few_tokens = 8;
constexpr std::int64_t most_tokens = 4096;  // of one pass: bounds the scratch

/// delta and lambda of one block, for all heads.
void prepare_steps(const SsdArgs& args, const SsdBlock& block, const SsdShared& shared,
                   Scratch& scratch) {
  const std::int64_t heads = args.x.extent[1];
  const std::int64_t row = padded(heads);
  float* const dt = scratch.floats((block.length + 1) * row);
  float* const delta = dt + row;
  for (std::int64_t i = 0; i < block.length; ++i) {
    const float* const source = load_row(args.dt.at(block.begin + i, 0), args.dt.dtype, heads, dt);
    step_sizes(source, args.dt_bias.data, args.dt_min, args.dt_max, heads, delta + i * row);
  }
  for (std::int64_t h = 0; h < heads; ++h) {
    double sum = 0.0;
    for (std::int64_t i = 0; i < block.length; ++i) {
      const std::int64_t place = h * shared.tokens + block.begin + i;
      sum += static_cast<double>(delta[i * row + h]) * args.A(h);
      shared.delta[place] = delta[i * row + h];
      shared.lambda[place] = sum;
    }
  }
}

/// B, C and the scores C B^T of one block and group.
void prepare_scores(const SsdArgs& args, const SsdBlock& block, std::int64_t index, std::int64_t g,
                    const SsdShared& shared, Scratch& scratch) {
  const std::int64_t state_dim = args.B.extent[2];
  const std::int64_t length = block.length;
  const std::int64_t turned_row = padded(length);
  float* const B = shared.B_of(g, block);
  float* const C = shared.C_of(g, block);
  for (std::int64_t i = 0; i < length; ++i) {
    copy_row(args.B.at(block.begin + i, g, 0), args.B.dtype, state_dim, B + i * state_dim);
    copy_row(args.C.at(block.begin + i, g, 0), args.C.dtype, state_dim, C + i * state_dim);
  }
  float* const turned = scratch.floats(state_dim * turned_row);
  transpose(B, state_dim, length, state_dim, turned, turned_row);
  for (std::int64_t i = 0; i < length; i += ssd_block_tokens) {
    const std::int64_t rows = std::min(ssd_block_tokens, length - i);
    multiply({.rows = rows,
              .columns = i + rows,
              .depth = state_dim,
              .a = C + i * state_dim,
              .a_row = state_dim,
              .b = turned,
              .b_row = turned_row,
              .c = shared.scores_of(g, index) + i * turned_row,
              .c_row = turned_row});
  }
}

/// Where the blocks' parts of the shared memory begin.
struct BlockPlaces {
  std::vector<std::int64_t> scores;
  std::vector<std::int64_t> panels;  // tiles only
};

/// Lays out the shared memory of a pass.
SsdShared lay_out(const SsdArgs& args, const std::vector<SsdBlock>& blocks, Scratch& scratch,
                  BlockPlaces& places) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t heads = args.x.extent[1];
  const std::int64_t groups = args.B.extent[1];
  const std::int64_t state_dim = args.B.extent[2];
  SsdShared shared;
  shared.tiles = tile_scan_applies(args);
  places.scores.clear();
  places.panels.clear();
  std::int64_t scores = 0;
  std::int64_t panels = 0;
  for (const SsdBlock& block : blocks) {
    places.scores.push_back(scores);
    places.panels.push_back(panels);
    // Squares are read whole, beyond the last row and column as well.
    const std::int64_t square = shared.tiles ? panel_width : 16;
    const std::int64_t length = (block.length + square - 1) / square * square;
    scores += length * length;
    panels += length / panel_width * panel_elements(state_dim);
  }
  const std::int64_t steps = padded(heads * tokens);
  const std::int64_t rows =
      shared.tiles ? groups * panels / 2 : padded(groups * tokens * state_dim);
  float* memory = scratch.floats(3 * steps + 2 * rows + groups * scores);
  shared.tokens = tokens;
  shared.state_dim = state_dim;
  shared.lambda = reinterpret_cast<double*>(memory);
  shared.delta = memory + 2 * steps;
  shared.B = shared.delta + steps;
  shared.C = shared.B + rows;
  shared.B_turned = reinterpret_cast<bf16*>(shared.B);
  shared.C_rows = reinterpret_cast<bf16*>(shared.C);
  shared.panels_group = panels;
  shared.panels_at = places.panels.data();
  shared.scores = shared.C + rows;
  shared.scores_group = scores;
  shared.scores_at = places.scores.data();
  return shared;
}

void scan_pass(const Executor& exec, SsdSemantics semantics, const SsdArgs& args) {
  const std::int64_t heads = args.x.extent[1];
  const std::int64_t groups = args.B.extent[1];
  const std::vector<SsdBlock> blocks = plan_blocks(semantics, args);
  const auto count = static_cast<std::int64_t>(blocks.size());
  thread_local Scratch memory;
  thread_local BlockPlaces places;
  const SsdShared shared = lay_out(args, blocks, memory, places);
#pragma omp parallel num_threads(exec.threads)
  {
    thread_local Scratch scratch;
    std::optional<TileScope> scope;
    if (shared.tiles) scope.emplace();
#pragma omp for schedule(dynamic) nowait
    for (std::int64_t b = 0; b < count; ++b) prepare_steps(args, blocks[b], shared, scratch);
#pragma omp for collapse(2) schedule(dynamic)
    for (std::int64_t b = 0; b < count; ++b) {
      for (std::int64_t g = 0; g < groups; ++g) {
        (shared.tiles ? prepare_tiles : prepare_scores)(args, blocks[b], b, g, shared, scratch);
      }
    }
#pragma omp for schedule(dynamic)
    for (std::int64_t h = 0; h < heads; ++h) scan_head(semantics, args, blocks, shared, h, scratch);
  }
}

/// Tokens of the pass that begins at token `begin` of the call, if more are left. What
/// own_end_state reads at a chunk's start lies at its end. For the other semantics that see chunks,
/// passes end at a chunk's border, or at a multiple of most_tokens within a long chunk, wherever
/// the call began: results must not depend on that.
std::int64_t pass_tokens(SsdSemantics semantics, const SsdArgs& args, std::int64_t begin) {
  if (semantics == SsdSemantics::exact) return most_tokens;
  const std::int64_t chunk = args.chunk_size;
  if (semantics == SsdSemantics::own_end_state) {
    return std::max<std::int64_t>(most_tokens / chunk, 1) * chunk;
  }
  const std::int64_t in_chunk = (args.first_position + begin) % chunk;
  const std::int64_t to_border = chunk - in_chunk;
  if (to_border > most_tokens) return most_tokens - in_chunk % most_tokens;
  return to_border + (most_tokens - to_border) / chunk * chunk;
}

}  // namespace

void blocked_scan(const Executor& exec, SsdSemantics semantics, const SsdArgs& args) {
  const std::int64_t tokens = args.x.extent[0];
  // Loading and storing the transposed states would cost more than the tokens.
  if (tokens < few_tokens && semantics != SsdSemantics::own_end_state) {
    return recurrent_scan(exec, semantics, args);
  }
  if (tokens <= pass_tokens(semantics, args, 0)) {
    if (tokens > 0) scan_pass(exec, semantics, args);
    return;
  }
  // Between passes the state is fp32, whatever it is stored as.
  const std::int64_t slots = semantics == SsdSemantics::lookback ? args.lookback + 1 : 1;
  const std::array<std::int64_t, 4> extent{slots, args.x.extent[1], args.x.extent[2],
                                           args.B.extent[2]};
  thread_local Scratch memory;
  AnyView<4> carried = args.state;
  if (!args.state || args.state.dtype != DType::fp32) {
    const std::int64_t elements = extent[0] * extent[1] * extent[2] * extent[3];
    float* const copy = memory.floats(elements);
    std::fill_n(copy, elements, 0.0F);
    carried = View<float, 4>(copy, extent);
    if (args.state) copy_state(args.state, carried);
  }
  for (std::int64_t begin = 0, end = 0; begin < tokens; begin = end) {
    end = std::min(begin + pass_tokens(semantics, args, begin), tokens);
    SsdArgs part = args;
    part.x = args.x.slice(0, begin, end);
    part.dt = args.dt.slice(0, begin, end);
    part.B = args.B.slice(0, begin, end);
    part.C = args.C.slice(0, begin, end);
    part.y = args.y.slice(0, begin, end);
    part.state = carried;
    part.first_position = args.first_position + begin;
    scan_pass(exec, semantics, part);
  }
  if (args.state && args.state.dtype != DType::fp32) copy_state(carried, args.state);
}

}  // namespace chunkstate::cpu
