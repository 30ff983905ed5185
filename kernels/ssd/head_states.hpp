// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/base/rows.hpp"
#include "kernels/ssd/ssd.hpp"

namespace chunkstate::cpu {

/// The states of one head during a scan, fp32 and transposed, [state_dim, padded(head_dim)] or, as
/// `tiles`, in panels of sums (bf16_tiles.hpp) [state_dim / 32][head_dim / 32], so that all
/// products run along head_dim. The open slot is the one of the current chunk; the sum of the
/// others is formed once per chunk and decays by a factor, so old slots are not touched per block.
class HeadStates {
 public:
  HeadStates(const SsdArgs& args, std::int64_t h, std::int64_t slots, bool tiles);

  /// Floats that `place` needs.
  std::int64_t floats() const;
  void place(float* memory);

  std::int64_t columns() const { return columns_; }
  std::int64_t elements() const { return elements_; }
  std::int64_t slots() const { return slots_; }

  void load(std::int64_t open_chunk);
  void store();

  /// Forgets what the chunk's slot held.
  void open_chunk(std::int64_t chunk);
  void close_chunk();

  /// A block with this sum of delta A has passed.
  void pass(double lambda) { chunk_lambda_ += lambda; }

  /// What the next token sees; nullptr if that is zero.
  const float* before() { return before(open_is_zero_ ? nullptr : open()); }
  /// The same with `own` (nullptr: zero) in the place of the open slot.
  const float* before(const float* own);

  float* open() { return slot(open_slot_); }
  bool open_is_zero() const { return open_is_zero_; }
  void set_open_is_zero(bool zero) { open_is_zero_ = zero; }

  /// From here on the chunk's tokens see the open slot as if another chunk had left it.
  void read_own_end();

 private:
  float* slot(std::int64_t s) { return slot_memory_ + s * elements_; }
  void sum_others();
  void turn_in(std::int64_t s);
  void turn_out(std::int64_t s);

  const SsdArgs& args_;
  const std::int64_t h_;
  const std::int64_t slots_;
  const bool tiles_;
  const std::int64_t head_dim_;
  const std::int64_t state_dim_;
  const std::int64_t columns_;
  const std::int64_t rows_;
  const std::int64_t elements_;

  std::int64_t open_slot_ = 0;
  bool open_is_zero_ = true;
  bool others_are_zero_ = true;
  double chunk_lambda_ = 0.0;        // sum of delta A since the chunk's first token of this call
  std::vector<double> slot_lambda_;  // a slot has still to be multiplied with exp of this
  float* slot_memory_ = nullptr;
  float* others_ =
      nullptr;  // sum of the other slots as the chunk's first token of this call sees it
  float* start_ = nullptr;
  float* turn_ = nullptr;  // [head_dim, state_dim], as tiles [columns_, rows_]
};

/// target = source, converted. Equal shapes.
void copy_state(const ConstAnyView<4>& source, const AnyView<4>& target);

}  // namespace chunkstate::cpu
