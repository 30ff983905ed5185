// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/head_scan.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/base/product.hpp"
#include "kernels/ssd/decay.hpp"
#include "kernels/ssd/head_states.hpp"
#include "kernels/ssd/tile_steps.hpp"

namespace chunkstate::cpu {
namespace {

template <bool for_writing>
void prefetch(const std::byte* row, std::int64_t count, DType dtype) {
  const std::int64_t bytes = count * static_cast<std::int64_t>(bytes_of(dtype));
  for (std::int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(row + i, for_writing);
}

/// In fp32, rows as they lie.
class FloatSteps final : public BlockSteps {
 public:
  /// `memory` holds floats().
  FloatSteps(const SsdArgs& args, const SsdShared& shared, std::int64_t h, std::int64_t longest,
             HeadStates& states, float* memory);
  static std::int64_t floats(const SsdArgs& args, std::int64_t longest);

  void load_x(const SsdBlock& block) override;
  void output(const SsdBlock& block, std::int64_t index, const float* start) override;
  void update(const SsdBlock& block, std::int64_t index) override;

 private:
  static std::int64_t masked_row(std::int64_t longest) { return padded(longest) + 32; }
  const double* lambda(const SsdBlock& block) const {
    return shared_.lambda + h_ * shared_.tokens + block.begin;
  }
  const float* delta(const SsdBlock& block) const {
    return shared_.delta + h_ * shared_.tokens + block.begin;
  }

  const SsdArgs& args_;
  const SsdShared& shared_;
  const std::int64_t h_;
  const std::int64_t g_;
  const std::int64_t head_dim_;
  const std::int64_t state_dim_;
  const std::int64_t columns_;  // padded(head_dim)
  const std::int64_t masked_row_;
  HeadStates& states_;

  float* x_;         // [length, columns]
  float* y_;         // [length, columns]
  float* weighted_;  // [length, columns]  x times its weight in the block's end state
  float* masked_;    // [ssd_block_tokens, masked_row]
  float* weight_;    // [length]
  float* factor_;    // [length]  decay since the block's begin
};

std::int64_t FloatSteps::floats(const SsdArgs& args, std::int64_t longest) {
  return 3 * longest * padded(args.x.extent[2]) + ssd_block_tokens * masked_row(longest) +
         2 * padded(longest);
}

FloatSteps::FloatSteps(const SsdArgs& args, const SsdShared& shared, std::int64_t h,
                       std::int64_t longest, HeadStates& states, float* memory)
    : args_(args),
      shared_(shared),
      h_(h),
      g_(h / (args.x.extent[1] / args.B.extent[1])),
      head_dim_(args.x.extent[2]),
      state_dim_(args.B.extent[2]),
      columns_(padded(head_dim_)),
      masked_row_(masked_row(longest)),
      states_(states) {
  const auto take = [&memory](std::int64_t count) {
    float* const begin = memory;
    memory += count;
    return begin;
  };
  x_ = take(longest * columns_);
  y_ = take(longest * columns_);
  weighted_ = take(longest * columns_);
  masked_ = take(ssd_block_tokens * masked_row_);
  weight_ = take(padded(longest));
  factor_ = take(padded(longest));
}

void FloatSteps::load_x(const SsdBlock& block) {
  for (std::int64_t i = 0; i < block.length; ++i) {
    float* const row = x_ + i * columns_;
    copy_row(args_.x.at(block.begin + i, h_, 0), args_.x.dtype, head_dim_, row);
    std::fill(row + head_dim_, row + columns_, 0.0F);
  }
  // A head's rows lie tokens apart, where no hardware prefetcher follows: ask for the next block's
  // x and this block's y while the products run (a fifth of the time at Bamba-9B's shape).
  const std::int64_t end = block.begin + block.length;
  const std::int64_t next = std::min(end + block.length, args_.x.extent[0]);
  for (std::int64_t t = end; t < next; ++t) {
    prefetch<false>(args_.x.at(t, h_, 0), head_dim_, args_.x.dtype);
  }
  for (std::int64_t t = block.begin; t < end; ++t) {
    prefetch<true>(args_.y.at(t, h_, 0), head_dim_, args_.y.dtype);
  }
}

void FloatSteps::output(const SsdBlock& block, std::int64_t index, const float* start) {
  if (start != nullptr) {
    multiply({.rows = block.length,
              .columns = head_dim_,
              .depth = state_dim_,
              .a = shared_.C_of(g_, block),
              .a_row = state_dim_,
              .b = start,
              .b_row = columns_,
              .c = y_,
              .c_row = columns_});
    decays(lambda(block), block.length, factor_);
  }
  const std::int64_t scores_row = padded(block.length);
  for (std::int64_t i = 0; i < block.length; i += ssd_block_tokens) {
    const std::int64_t end = std::min(i + ssd_block_tokens, block.length);
    masked_scores(shared_.scores_of(g_, index), scores_row, lambda(block), delta(block),
                  args_.D(h_), i, end, masked_, masked_row_);
    multiply({.rows = end - i,
              .columns = head_dim_,
              .depth = end,
              .a = masked_,
              .a_row = masked_row_,
              .b = x_,
              .b_row = columns_,
              .c = y_ + i * columns_,
              .c_row = columns_,
              .c_factor = start != nullptr ? factor_ + i : nullptr,
              .c_factor_row = 1,
              .diagonal = i});
  }
  for (std::int64_t i = 0; i < block.length; ++i) {
    store_row(y_ + i * columns_, head_dim_, args_.y.at(block.begin + i, h_, 0), args_.y.dtype);
  }
}

void FloatSteps::update(const SsdBlock& block, std::int64_t) {
  weights_to_end(lambda(block), delta(block), block.length, weight_);
  scale_rows(weight_, x_, block.length, columns_, weighted_);
  const auto decay = static_cast<float>(std::exp(lambda(block)[block.length - 1]));
  multiply({.rows = state_dim_,
            .columns = head_dim_,
            .depth = block.length,
            .a = shared_.B_of(g_, block),
            .a_row = 1,
            .a_depth = state_dim_,
            .b = weighted_,
            .b_row = columns_,
            .c = states_.open(),
            .c_row = columns_,
            .c_factor = states_.open_is_zero() ? nullptr : &decay});
  states_.set_open_is_zero(false);
}

/// Leads one head's states and steps through the blocks.
class HeadScan {
 public:
  HeadScan(SsdSemantics semantics, const SsdArgs& args, const double* lambda, HeadStates& states,
           BlockSteps& steps, float* stash)
      : semantics_(semantics),
        args_(args),
        lambda_(lambda),
        states_(states),
        steps_(steps),
        stash_(stash) {}

  void run(const std::vector<SsdBlock>& blocks);

 private:
  void run_own_end_state(const std::vector<SsdBlock>& blocks, std::size_t begin, std::size_t end);
  double decay(const SsdBlock& block) const { return lambda_[block.begin + block.length - 1]; }

  const SsdSemantics semantics_;
  const SsdArgs& args_;
  const double* lambda_;  // [tokens]
  HeadStates& states_;
  BlockSteps& steps_;
  float* stash_;  // states at the starts of a chunk's blocks; own_end_state only
};

/// A chunk's tokens also read its end state: first all states at the blocks' starts, then the
/// output with the end state in the place of the other chunks' states.
void HeadScan::run_own_end_state(const std::vector<SsdBlock>& blocks, std::size_t begin,
                                 std::size_t end) {
  const auto stash = [&](std::size_t b) {
    return stash_ + static_cast<std::int64_t>(b - begin) * states_.elements();
  };
  states_.set_open_is_zero(true);
  for (std::size_t b = begin; b < end; ++b) {
    if (b > begin) std::copy_n(states_.open(), states_.elements(), stash(b));
    steps_.load_x(blocks[b]);
    steps_.update(blocks[b], static_cast<std::int64_t>(b));
  }
  states_.read_own_end();
  for (std::size_t b = begin; b < end; ++b) {
    steps_.load_x(blocks[b]);
    steps_.output(blocks[b], static_cast<std::int64_t>(b),
                  states_.before(b > begin ? stash(b) : nullptr));
    states_.pass(decay(blocks[b]));
  }
}

void HeadScan::run(const std::vector<SsdBlock>& blocks) {
  if (semantics_ == SsdSemantics::own_end_state) {
    for (std::size_t begin = 0, end = 0; begin < blocks.size(); begin = end) {
      while (!blocks[end].closes_chunk) ++end;
      ++end;
      run_own_end_state(blocks, begin, end);
    }
    return states_.store();
  }
  states_.load(blocks.front().chunk);
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    const SsdBlock& block = blocks[b];
    if (block.opens_chunk) states_.open_chunk(block.chunk);
    steps_.load_x(block);
    steps_.output(block, static_cast<std::int64_t>(b), states_.before());
    const bool last = b + 1 == blocks.size();
    const bool read_later =
        last ? static_cast<bool>(args_.state) : states_.slots() > 1 || !block.closes_chunk;
    if (read_later) steps_.update(block, static_cast<std::int64_t>(b));
    states_.pass(decay(block));
    if (block.closes_chunk) states_.close_chunk();
  }
  states_.store();
}

}  // namespace

void scan_head(SsdSemantics semantics, const SsdArgs& args, const std::vector<SsdBlock>& blocks,
               const SsdShared& shared, std::int64_t h, Scratch& scratch) {
  std::int64_t longest = 0;
  std::int64_t stashed = 0;
  for (const SsdBlock& block : blocks) longest = std::max(longest, block.length);
  if (semantics == SsdSemantics::own_end_state) {
    stashed = (std::min(args.chunk_size, args.x.extent[0]) + longest - 1) / longest;
  }
  const std::int64_t slots = semantics == SsdSemantics::lookback ? args.lookback + 1 : 1;
  HeadStates states(args, h, slots, shared.tiles);
  const std::int64_t own =
      shared.tiles ? TileSteps::floats(args, longest) : FloatSteps::floats(args, longest);
  float* const memory = scratch.floats(states.floats() + stashed * states.elements() + own);
  float* const stash = memory + states.floats();
  float* const rest = stash + stashed * states.elements();
  states.place(memory);
  const auto run = [&](BlockSteps& steps) {
    HeadScan(semantics, args, shared.lambda + h * shared.tokens, states, steps, stash).run(blocks);
  };
  if (shared.tiles) {
    TileSteps steps(args, shared, h, longest, states, rest);
    run(steps);
  } else {
    FloatSteps steps(args, shared, h, longest, states, rest);
    run(steps);
  }
}

}  // namespace chunkstate::cpu
