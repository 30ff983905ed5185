// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "core/generate.hpp"
#include "core/model.hpp"

namespace chunkstate {

/// A sequence that has left a ContinuousBatch.
struct BatchedResult {
  std::int64_t slot = 0;
  Generated generated;
  std::string error;  // why it cannot go on (NaN or infinite logits); empty: it is whole
  /// Mean number of sequences that its decode steps advanced; NaN without a decode step.
  double mean_batch = std::numeric_limits<double>::quiet_NaN();
};

/// Sequences of different lengths that decode together, each in a slot of one state: one that ends
/// frees its slot for another prompt, which is prefilled between two steps while the others wait.
/// A sequence's tokens and logits are those of generate() with it alone: bit for bit on a CPU and
/// on the reference; on a GPU the prefill is the same and steps differ by rounding as generate()'s
/// batches of `slots` do (not at all for fused steps of up to 8), whatever the other slots hold.
class ContinuousBatch {
 public:
  /// Memory for `slots` sequences of up to `capacity` tokens, prompt and new ones together. Of
  /// `options`, max_new_tokens is begin()'s, use_cache must be on and group none. `sink` gets every
  /// token with its slot. Throws std::bad_alloc.
  ContinuousBatch(Model& model, const SsdSettings& ssd, std::int64_t slots, std::int64_t capacity,
                  GenerateOptions options, TokenSink sink);
  /// Leaves the memory to the model.
  ~ContinuousBatch() { model_.keep_state(std::move(state_)); }
  ContinuousBatch(const ContinuousBatch&) = delete;
  ContinuousBatch& operator=(const ContinuousBatch&) = delete;

  std::int64_t capacity() const { return capacity_; }
  /// Sequences that have begun and not been returned by advance().
  std::int64_t active() const { return active_; }
  bool full() const { return active_ == static_cast<std::int64_t>(slots_.size()); }

  /// The slot that the next begin() takes. There must be a free one.
  std::int64_t free_slot() const;
  /// Prefills `prompt` and samples its first token. Throws what generate() throws for a prompt,
  /// UsageError for more than capacity() tokens, std::domain_error for NaN logits: the slot is
  /// free again then, and the others are as they were.
  void begin(std::span<const std::int32_t> prompt, std::uint64_t seed, std::int64_t max_new_tokens);

  /// Decode steps until some sequences have ended, which leave their slots. Nothing if none is
  /// active. After an exception (std::bad_alloc, BackendError) the batch can only be destroyed.
  std::vector<BatchedResult> advance();

 private:
  struct Slot {
    enum class Use : std::uint8_t { free, decoding, ended };
    Use use = Use::free;
    std::uint64_t seed = 0;
    std::int64_t max_new_tokens = 0;
    Generated generated;
    std::string error;
    std::int64_t steps = 0;
    std::int64_t step_sequences = 0;  // of all steps, sequences in them
  };

  void step_on_host();
  void steps_on_device();
  std::vector<std::int64_t> decoding() const;
  bool any_ended() const;
  std::int64_t fewest_left() const;
  RowSink sink_of_rows();
  void accept(std::int64_t slot, View<const float, 2> logits, std::int64_t row);
  void emit(std::int64_t slot, const Sampled& sampled);
  // take() of a slot's token in a step of so many sequences; a std::domain_error ends the slot.
  template <class Take>
  void count_step(std::int64_t place, std::int64_t sequences, const Take& take);
  std::vector<BatchedResult> leave();

  Model& model_;
  std::int64_t capacity_;
  GenerateOptions options_;
  TokenSink sink_;
  std::vector<Slot> slots_;
  std::int64_t active_ = 0;
  SequenceState state_;
};

}  // namespace chunkstate
