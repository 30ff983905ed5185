// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/head_states.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/base/bf16_tiles.hpp"
#include "kernels/base/product.hpp"
#include "kernels/ssd/decay.hpp"

namespace chunkstate::cpu {
namespace {

float decay_of(double lambda) { return static_cast<float>(std::exp(lambda)); }

std::int64_t rounded_up(std::int64_t count, std::int64_t part) {
  return (count + part - 1) / part * part;
}

constexpr std::int64_t square = 16;

}  // namespace

HeadStates::HeadStates(const SsdArgs& args, std::int64_t h, std::int64_t slots, bool tiles)
    : args_(args),
      h_(h),
      slots_(slots),
      tiles_(tiles),
      head_dim_(args.x.extent[2]),
      state_dim_(args.B.extent[2]),
      columns_(tiles ? rounded_up(head_dim_, panel_width) : padded(head_dim_)),
      rows_(tiles ? rounded_up(state_dim_, panel_width) : state_dim_),
      elements_(rows_ * columns_),
      slot_lambda_(static_cast<std::size_t>(slots)) {}

std::int64_t HeadStates::floats() const {
  return (slots_ + 2) * elements_ + padded(columns_ * rows_);
}

void HeadStates::place(float* memory) {
  slot_memory_ = memory;
  others_ = slot_memory_ + slots_ * elements_;
  start_ = others_ + elements_;
  turn_ = start_ + elements_;
}

void HeadStates::load(std::int64_t chunk) {
  open_slot_ = chunk % slots_;
  std::fill_n(slot_memory_, slots_ * elements_, 0.0F);
  if (!args_.state) return;
  std::fill_n(turn_, columns_ * rows_, 0.0F);
  for (std::int64_t s = 0; s < slots_; ++s) {
    for (std::int64_t p = 0; p < head_dim_; ++p) {
      copy_row(args_.state.at(s, h_, p, 0), args_.state.dtype, state_dim_, turn_ + p * rows_);
    }
    turn_in(s);
  }
  open_is_zero_ = false;
  sum_others();
}

void HeadStates::store() {
  if (!args_.state) return;
  for (std::int64_t s = 0; s < slots_; ++s) {
    if (slot_lambda_[s] != 0.0) {
      add_scaled(decay_of(slot_lambda_[s]), slot(s), elements_, true, slot(s));
    }
    turn_out(s);
    for (std::int64_t p = 0; p < head_dim_; ++p) {
      store_row(turn_ + p * rows_, state_dim_, args_.state.at(s, h_, p, 0), args_.state.dtype);
    }
  }
}

/// slot(s) = turn_, turned.
void HeadStates::turn_in(std::int64_t s) {
  if (!tiles_) return transpose(turn_, rows_, head_dim_, rows_, slot(s), columns_);
  alignas(64) float rows[square * square];
  float* tile = slot(s);
  for (std::int64_t n = 0; n < rows_; n += panel_width) {
    for (std::int64_t p = 0; p < columns_; p += panel_width) {
      for (std::int64_t half = 0; half < 4; ++half, tile += square * square) {
        const float* const from = turn_ + (p + half % 2 * square) * rows_ + n + half / 2 * square;
        for (std::int64_t i = 0; i < square; ++i) {
          std::copy_n(from + i * rows_, square, rows + i * square);
        }
        turn_sums(rows, tile);
      }
    }
  }
}

/// turn_ = slot(s), turned.
void HeadStates::turn_out(std::int64_t s) {
  if (!tiles_) return transpose(slot(s), columns_, rows_, head_dim_, turn_, rows_);
  alignas(64) float rows[square * square];
  const float* tile = slot(s);
  for (std::int64_t n = 0; n < rows_; n += panel_width) {
    for (std::int64_t p = 0; p < columns_; p += panel_width) {
      for (std::int64_t half = 0; half < 4; ++half, tile += square * square) {
        float* const to = turn_ + (p + half % 2 * square) * rows_ + n + half / 2 * square;
        turn_sums(tile, rows);
        for (std::int64_t i = 0; i < square; ++i) {
          std::copy_n(rows + i * square, square, to + i * rows_);
        }
      }
    }
  }
}

void HeadStates::sum_others() {
  others_are_zero_ = true;
  for (std::int64_t s = 0; s < slots_; ++s) {
    if (s == open_slot_) continue;
    add_scaled(decay_of(slot_lambda_[s]), slot(s), elements_, others_are_zero_, others_);
    others_are_zero_ = false;
  }
}

void HeadStates::open_chunk(std::int64_t chunk) {
  // Here and not when they are read: a sequence's result must not depend on where calls end.
  for (std::int64_t s = 0; s < slots_; ++s) {
    if (slot_lambda_[s] != 0.0) {
      add_scaled(decay_of(slot_lambda_[s]), slot(s), elements_, true, slot(s));
      slot_lambda_[s] = 0.0;
    }
  }
  open_slot_ = chunk % slots_;
  open_is_zero_ = true;
  sum_others();
}

void HeadStates::close_chunk() {
  for (std::int64_t s = 0; s < slots_; ++s) {
    if (s != open_slot_) slot_lambda_[s] += chunk_lambda_;
  }
  chunk_lambda_ = 0.0;
}

const float* HeadStates::before(const float* own) {
  if (others_are_zero_) return own;
  if (own == nullptr && chunk_lambda_ == 0.0) return others_;
  if (own != nullptr) std::copy_n(own, elements_, start_);
  add_scaled(decay_of(chunk_lambda_), others_, elements_, own == nullptr, start_);
  return start_;
}

void HeadStates::read_own_end() {
  std::copy_n(open(), elements_, others_);
  others_are_zero_ = false;
  chunk_lambda_ = 0.0;
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
