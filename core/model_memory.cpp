// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>
#include <vector>

#include "core/model.hpp"
#include "core/sequence_split.hpp"
#include "kernels/base/memory.hpp"
#include "kernels/linear/linear.hpp"

// What a model's requests take of memory, and what is kept from one to the next.
namespace chunkstate {
namespace {

// States are made for a multiple of so many tokens, so that prompts of nearly one length share one.
constexpr std::int64_t capacity_granularity = 256;
// Activations too: a prompt that grows token by token, as without a cache, allocates nothing in 63
// passes of 64.
constexpr std::int64_t pass_granularity = 64;
// 2.7 GB of activations for Bamba-9B in bf16; its products' results have less than 2^31 elements.
constexpr std::int64_t gpu_pass_tokens = 32768;
// Recorded steps that a model keeps: one per scan of a sweep, tens of MB each.
constexpr std::size_t max_decoders = 16;

std::int64_t round_up(std::int64_t count, std::int64_t multiple) {
  return (count + multiple - 1) / multiple * multiple;
}

}  // namespace

std::size_t device_memory_in_use() { return device_memory().used; }
std::size_t device_memory_total() { return device_memory().total; }
std::size_t device_memory_given_back() {
  const DeviceMemoryUse use = device_memory_use();
  reset_device_memory_peak();
  return use.peak - use.bytes;
}

std::int64_t Model::state_capacity(std::int64_t tokens) const {
  return options_.backend == Backend::cuda ? round_up(tokens, capacity_granularity) : tokens;
}

std::int64_t Model::pass_capacity(std::int64_t tokens) const {
  return options_.backend == Backend::cuda ? round_up(tokens, pass_granularity) : tokens;
}

std::int64_t Model::longest_pass() const {
  return options_.backend == Backend::cuda ? gpu_pass_tokens
                                           : std::numeric_limits<std::int64_t>::max();
}

std::size_t Model::request_bytes(const SsdSettings& ssd, std::int64_t batch, std::int64_t prefilled,
                                 std::int64_t piece_tokens, std::int64_t total_tokens,
                                 int ranks) const {
  const std::int64_t capacity = state_capacity(total_tokens);
  const SequenceStateBytes state =
      sequence_state_bytes(layer_config(), options_.dtype, options_.state_dtype, ssd);
  std::int64_t pass = piece_tokens > 0 ? std::min(piece_tokens, prefilled)
                                       : std::min(batch * prefilled, longest_pass());
  std::size_t activations = 0;
  if (ranks == 1) {
    activations = arena_bytes(pass, std::min(batch, pass)) +
                  scores_bytes(std::min(pass, prefilled), prefilled);
  } else {
    const std::vector<Range> ranges = split_ranges(ssd, prefilled, ranks);
    const std::vector<MovedQueries> moved = balance_queries(ranges);
    pass = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const Range& own = ranges[static_cast<std::size_t>(rank)];
      if (own.size() == 0) continue;
      const MovedQueries taken = queries_to(rank, moved);
      activations =
          std::max(activations, arena_bytes(own.size(), 1) + split_bytes(own, taken.tokens));
      pass = std::max(pass, own.size());
    }
  }
  const std::size_t bytes =
      static_cast<std::size_t>(batch * (state.fixed + state.per_token * capacity)) + activations;
  if (options_.backend != Backend::cuda) return bytes;
  const std::int64_t tokens = std::min(pass, prefilled);
  return bytes + decoder_bytes(layer_config(), options_, batch, capacity) +
         scratch_bytes(ssd, batch, pass / std::max<std::int64_t>(tokens, 1), tokens);
}

// Of attention in a pass over `own` tokens that takes over the queries `taken`.
std::size_t Model::split_bytes(const Range& own, const Range& taken) const {
  const std::size_t scores = scores_bytes(own.size(), own.end);
  if (taken.size() == 0) return scores;
  return std::max(scores, scores_bytes(taken.size(), taken.end)) +
         2 * Arena::padded(taken.size() * query_size(), options_.dtype);
}

// Of a pass, and of the steps that a decoder records, whose scratch memory is the recording's own.
std::size_t Model::scratch_bytes(const SsdSettings& ssd, std::int64_t batch, std::int64_t sequences,
                                 std::int64_t tokens) const {
  const std::size_t scan =
      scan_scratch_bytes(layer_config(), options_.dtype, ssd, sequences, tokens);
  constexpr auto products = static_cast<std::size_t>(linear_scratch_bytes);
  const bool kept = scan <= static_cast<std::size_t>(largest_kept_scratch);
  const std::size_t pass = kept ? std::max(scan, products) : scan + products;
  const bool records = batch > 8 && options_.execution.mode == ExecutionMode::graph;
  return records ? pass + products : pass;
}

std::size_t Model::slots_bytes(const SsdSettings& ssd, std::int64_t slots, std::int64_t prefilled,
                               std::int64_t piece_tokens, std::int64_t capacity) const {
  const SequenceStateBytes state =
      sequence_state_bytes(layer_config(), options_.dtype, options_.state_dtype, ssd);
  const std::int64_t room = state_capacity(capacity);
  std::size_t bytes =
      request_bytes(ssd, 1, prefilled, piece_tokens, capacity) +
      static_cast<std::size_t>((slots - 1) * (state.fixed + state.per_token * room));
  if (options_.backend == Backend::cuda) {
    return bytes + decoder_bytes(layer_config(), options_, slots, room) -
           decoder_bytes(layer_config(), options_, 1, room);
  }
  const std::int64_t rows = std::min(slots, same_sums_tokens);
  const std::size_t step = arena_bytes(rows, rows);
  const std::size_t prefill = arena_bytes(std::min(prefilled, longest_pass()), 1);
  return bytes + (step > prefill ? step - prefill : 0);
}

std::size_t Model::working_bytes() const {
  std::size_t bytes = arena_.bytes() + (spare_ ? spare_->bytes() : 0);
  for (const auto& [key, decoder] : decoders_) bytes += decoder->bytes();
  return bytes;
}

std::size_t Model::idle_bytes() const {
  std::size_t bytes = arena_.bytes() - needed_arena_bytes_;
  if (spare_ && spare_->capacity() > needed_capacity_) {
    const std::int64_t per_token =
        sequence_state_bytes(layer_config(), options_.dtype, options_.state_dtype, spare_->ssd())
            .per_token;
    bytes += static_cast<std::size_t>(spare_->batch() * per_token *
                                      (spare_->capacity() - needed_capacity_));
  }
  return bytes;
}

SequenceState Model::take_state(const SsdSettings& ssd, std::int64_t batch, std::int64_t capacity) {
  needed_arena_bytes_ = 0;
  needed_capacity_ = state_capacity(capacity);
  if (spare_ && spare_->batch() == batch && spare_->capacity() >= capacity &&
      spare_->restart(exec_, ssd)) {
    SequenceState state = std::move(*spare_);
    spare_.reset();
    return state;
  }
  spare_.reset();
  decoders_.clear();  // their state is gone
  return make_state(ssd, batch, state_capacity(capacity));
}

bool Model::has_decoder(const SequenceState& state) const {
  return options_.backend == Backend::cuda && state.ssd().variant->causal();
}

Decoder& Model::decoder(SequenceState& state) {
  const DecoderKey key{state.id(), state.ssd().variant, state.ssd().chunk_size,
                       options_.execution.attention.method};
  const auto found = decoders_.find(key);
  if (found != decoders_.end()) return *found->second;
  if (decoders_.size() >= max_decoders) decoders_.clear();
  const DecoderParts parts{
      layer_config(),
      options_,
      exec_,
      weights_,
      {reinterpret_cast<const float*>(inverse_frequency_.data()), {config_.rotary_dim / 2}},
      tensor()};
  return *decoders_.emplace(key, std::make_unique<Decoder>(parts, state)).first->second;
}

std::size_t Model::scores_bytes(std::int64_t tokens, std::int64_t keys) const {
  return attention_scores_arena_bytes(layer_config(), options_.backend, options_.dtype,
                                      options_.execution.attention, pass_capacity(tokens),
                                      pass_capacity(keys));
}

std::size_t Model::arena_bytes(std::int64_t tokens, std::int64_t logits_rows) const {
  const std::int64_t rows = pass_capacity(tokens);
  const std::size_t layer = Arena::padded(rows * config_.hidden_size, options_.dtype) +
                            layer_arena_bytes(layer_config(), options_.dtype, rows);
  return Arena::padded(position_words * rows, DType::fp32) +
         Arena::padded(rows * config_.hidden_size, options_.residual_dtype) +
         std::max(logits_arena_bytes(logits_rows), layer);
}

}  // namespace chunkstate
