// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/head_scan.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/base/product.hpp"
#include "kernels/ssd/decay.hpp"

namespace chunkstate::cpu {
namespace {

/// One head. States stand transposed, [state_dim, columns] with columns = padded(head_dim), so that
/// all products run along head_dim.
class HeadScan {
 public:
  HeadScan(SsdSemantics semantics, const SsdArgs& args, const SsdShared& shared, std::int64_t h,
           std::int64_t longest, std::int64_t stashed, Scratch& scratch);

  void run(const std::vector<SsdBlock>& blocks);

 private:
  float* slot(std::int64_t s) const { return slots_memory_ + s * state_elements_; }

  void load_states();
  void store_states();
  void open_chunk(std::int64_t chunk);
  void sum_other_slots();
  void close_chunk();
  void run_own_end_state(const std::vector<SsdBlock>& blocks, std::size_t begin, std::size_t end);

  void load_x(const SsdBlock& block);
  const float* state_before() const;
  void output(const SsdBlock& block, std::int64_t index, const float* start);
  void update(const SsdBlock& block);

  const SsdArgs& args_;
  const SsdShared& shared_;
  const SsdSemantics semantics_;
  const std::int64_t h_;
  const std::int64_t g_;
  const std::int64_t head_dim_;
  const std::int64_t state_dim_;
  const std::int64_t columns_;
  const std::int64_t state_elements_;
  const std::int64_t slots_;

  std::int64_t open_slot_ = 0;
  bool own_zero_ = true;       // the open slot's state is zero
  bool others_zero_ = true;    // the sum of the other slots' states is zero
  double chunk_lambda_ = 0.0;  // sum of delta A since the open chunk's first token of this call
  std::vector<double> slot_lambda_;  // what a slot has still to be multiplied with: exp of this

  float* slots_memory_;
  float* others_;    // sum of the slots that are not open, as the open chunk's first token sees it
  float* start_;     // what the block's first token sees
  float* x_;         // [length, columns]
  float* y_;         // [length, columns]
  float* weighted_;  // [length, columns]
  float* masked_;
  std::int64_t masked_row_;
  float* weight_;  // [length]
  float* factor_;  // [length]
  float* turn_;    // [head_dim, state_dim]
  float* stash_;   // [blocks of a chunk] states, own_end_state only
};

HeadScan::HeadScan(SsdSemantics semantics, const SsdArgs& args, const SsdShared& shared,
                   std::int64_t h, std::int64_t longest, std::int64_t stashed, Scratch& scratch)
    : args_(args),
      shared_(shared),
      semantics_(semantics),
      h_(h),
      g_(h / (args.x.extent[1] / args.B.extent[1])),
      head_dim_(args.x.extent[2]),
      state_dim_(args.B.extent[2]),
      columns_(padded(head_dim_)),
      state_elements_(state_dim_ * columns_),
      slots_(semantics == SsdSemantics::lookback ? args.lookback + 1 : 1),
      slot_lambda_(static_cast<std::size_t>(slots_)),
      masked_row_(padded(longest) + 32) {
  const std::int64_t rows = longest * columns_;
  const std::int64_t turn = padded(head_dim_ * state_dim_);
  float* memory = scratch.floats((slots_ + 2 + stashed) * state_elements_ + 3 * rows +
                                 ssd_block_tokens * masked_row_ + 2 * padded(longest) + turn);
  const auto take = [&memory](std::int64_t count) {
    float* const begin = memory;
    memory += count;
    return begin;
  };
  slots_memory_ = take(slots_ * state_elements_);
  others_ = take(state_elements_);
  start_ = take(state_elements_);
  stash_ = take(stashed * state_elements_);
  x_ = take(rows);
  y_ = take(rows);
  weighted_ = take(rows);
  masked_ = take(ssd_block_tokens * masked_row_);
  weight_ = take(padded(longest));
  factor_ = take(padded(longest));
  turn_ = take(turn);
}

void HeadScan::load_states() {
  std::fill_n(slots_memory_, slots_ * state_elements_, 0.0F);
  if (!args_.state) return;
  for (std::int64_t s = 0; s < slots_; ++s) {
    for (std::int64_t p = 0; p < head_dim_; ++p) {
      copy_row(args_.state.at(s, h_, p, 0), args_.state.dtype, state_dim_, turn_ + p * state_dim_);
    }
    transpose(turn_, state_dim_, head_dim_, state_dim_, slot(s), columns_);
  }
}

void HeadScan::store_states() {
  if (!args_.state) return;
  for (std::int64_t s = 0; s < slots_; ++s) {
    if (slot_lambda_[s] != 0.0) {
      const auto decay = static_cast<float>(std::exp(slot_lambda_[s]));
      add_scaled(decay, slot(s), state_elements_, true, slot(s));
    }
    transpose(slot(s), columns_, state_dim_, head_dim_, turn_, state_dim_);
    for (std::int64_t p = 0; p < head_dim_; ++p) {
      store_row(turn_ + p * state_dim_, state_dim_, args_.state.at(s, h_, p, 0), args_.state.dtype);
    }
  }
}

void HeadScan::sum_other_slots() {
  others_zero_ = true;
  for (std::int64_t s = 0; s < slots_; ++s) {
    if (s == open_slot_) continue;
    const auto decay = static_cast<float>(std::exp(slot_lambda_[s]));
    add_scaled(decay, slot(s), state_elements_, others_zero_, others_);
    others_zero_ = false;
  }
}

void HeadScan::open_chunk(std::int64_t chunk) {
  open_slot_ = chunk % slots_;
  slot_lambda_[open_slot_] = 0.0;
  own_zero_ = true;
  sum_other_slots();
}

void HeadScan::close_chunk() {
  for (std::int64_t s = 0; s < slots_; ++s) {
    if (s != open_slot_) slot_lambda_[s] += chunk_lambda_;
  }
  chunk_lambda_ = 0.0;
}

void HeadScan::load_x(const SsdBlock& block) {
  for (std::int64_t i = 0; i < block.length; ++i) {
    float* const row = x_ + i * columns_;
    copy_row(args_.x.at(block.begin + i, h_, 0), args_.x.dtype, head_dim_, row);
    std::fill(row + head_dim_, row + columns_, 0.0F);
  }
}

/// What the block's first token sees: nothing (nullptr), the open slot, or that and the others.
const float* HeadScan::state_before() const {
  if (others_zero_) return own_zero_ ? nullptr : slot(open_slot_);
  const auto decay = static_cast<float>(std::exp(chunk_lambda_));
  if (own_zero_) {
    if (chunk_lambda_ == 0.0) return others_;
    add_scaled(decay, others_, state_elements_, true, start_);
    return start_;
  }
  std::copy_n(slot(open_slot_), state_elements_, start_);
  add_scaled(decay, others_, state_elements_, false, start_);
  return start_;
}

void HeadScan::output(const SsdBlock& block, std::int64_t index, const float* start) {
  const double* const lambda = shared_.lambda + h_ * shared_.tokens + block.begin;
  const float* const delta = shared_.delta + h_ * shared_.tokens + block.begin;
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
    decays(lambda, block.length, factor_);
  }
  const std::int64_t scores_row = padded(block.length);
  for (std::int64_t i = 0; i < block.length; i += ssd_block_tokens) {
    const std::int64_t end = std::min(i + ssd_block_tokens, block.length);
    masked_scores(shared_.scores_of(g_, index), scores_row, lambda, delta, args_.D(h_), i, end,
                  masked_, masked_row_);
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

/// S = exp(lambda_last) S + sum_j exp(lambda_last - lambda_j) delta_j B_j x_j^T.
void HeadScan::update(const SsdBlock& block) {
  const double* const lambda = shared_.lambda + h_ * shared_.tokens + block.begin;
  const float* const delta = shared_.delta + h_ * shared_.tokens + block.begin;
  weights_to_end(lambda, delta, block.length, weight_);
  scale_rows(weight_, x_, block.length, columns_, weighted_);
  const auto decay = static_cast<float>(std::exp(lambda[block.length - 1]));
  multiply({.rows = state_dim_,
            .columns = head_dim_,
            .depth = block.length,
            .a = shared_.B_of(g_, block),
            .a_row = 1,
            .a_depth = state_dim_,
            .b = weighted_,
            .b_row = columns_,
            .c = slot(open_slot_),
            .c_row = columns_,
            .c_factor = own_zero_ ? nullptr : &decay});
  own_zero_ = false;
}

/// A chunk's tokens also read its end state: first all states at the blocks' starts, then the
/// output with the end state in the place of the other chunks' states.
void HeadScan::run_own_end_state(const std::vector<SsdBlock>& blocks, std::size_t begin,
                                 std::size_t end) {
  own_zero_ = true;
  for (std::size_t b = begin; b < end; ++b) {
    if (b > begin) {
      std::copy_n(slot(0), state_elements_,
                  stash_ + static_cast<std::int64_t>(b - begin) * state_elements_);
    }
    load_x(blocks[b]);
    update(blocks[b]);
  }
  std::copy_n(slot(0), state_elements_, others_);
  chunk_lambda_ = 0.0;
  for (std::size_t b = begin; b < end; ++b) {
    const float* start = others_;
    if (b > begin) {
      std::copy_n(stash_ + static_cast<std::int64_t>(b - begin) * state_elements_, state_elements_,
                  start_);
      add_scaled(static_cast<float>(std::exp(chunk_lambda_)), others_, state_elements_, false,
                 start_);
      start = start_;
    }
    load_x(blocks[b]);
    output(blocks[b], static_cast<std::int64_t>(b), start);
    chunk_lambda_ += shared_.lambda[h_ * shared_.tokens + blocks[b].begin + blocks[b].length - 1];
  }
}

void HeadScan::run(const std::vector<SsdBlock>& blocks) {
  if (semantics_ == SsdSemantics::own_end_state) {
    for (std::size_t begin = 0, end = 0; begin < blocks.size(); begin = end) {
      while (!blocks[end].closes_chunk) ++end;
      ++end;
      run_own_end_state(blocks, begin, end);
    }
    return store_states();
  }
  load_states();
  open_slot_ = blocks.front().chunk % slots_;
  if (args_.state) {
    own_zero_ = false;
    sum_other_slots();
  }
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    const SsdBlock& block = blocks[b];
    if (block.opens_chunk) open_chunk(block.chunk);
    load_x(block);
    output(block, static_cast<std::int64_t>(b), state_before());
    const bool last = b + 1 == blocks.size();
    const bool read_later =
        last ? static_cast<bool>(args_.state) : slots_ > 1 || !block.closes_chunk;
    if (read_later) update(block);
    chunk_lambda_ += shared_.lambda[h_ * shared_.tokens + block.begin + block.length - 1];
    if (block.closes_chunk) close_chunk();
  }
  store_states();
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
  HeadScan(semantics, args, shared, h, longest, stashed, scratch).run(blocks);
}

void copy_state(const ConstAnyView<4>& source, const AnyView<4>& target) {
  const std::int64_t state_dim = source.extent[3];
  std::vector<float> row(static_cast<std::size_t>(state_dim));
  for (std::int64_t s = 0; s < source.extent[0]; ++s) {
    for (std::int64_t h = 0; h < source.extent[1]; ++h) {
      for (std::int64_t p = 0; p < source.extent[2]; ++p) {
        copy_row(source.at(s, h, p, 0), source.dtype, state_dim, row.data());
        store_row(row.data(), state_dim, target.at(s, h, p, 0), target.dtype);
      }
    }
  }
}

}  // namespace chunkstate::cpu
