// SPDX-License-Identifier: Apache-2.0
#include "core/continuous_batch.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "core/errors.hpp"
#include "core/trace.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/sampling/greedy_step.hpp"

namespace chunkstate {

ContinuousBatch::ContinuousBatch(Model& model, const SsdSettings& ssd, std::int64_t slots,
                                 std::int64_t capacity, GenerateOptions options, TokenSink sink)
    : model_(model),
      capacity_(capacity),
      options_(std::move(options)),
      sink_(std::move(sink)),
      slots_(static_cast<std::size_t>(slots)),
      state_(model.take_state(ssd, slots, capacity)) {
  if (slots < 1 || !options_.use_cache || options_.group != nullptr) {
    throw std::logic_error("continuous batch: expected slots, a cache and no group");
  }
}

std::int64_t ContinuousBatch::free_slot() const {
  const auto found = std::find_if(slots_.begin(), slots_.end(),
                                  [](const Slot& slot) { return slot.use == Slot::Use::free; });
  if (found == slots_.end()) throw std::logic_error("continuous batch: no free slot");
  return found - slots_.begin();
}

void ContinuousBatch::begin(std::span<const std::int32_t> prompt, std::uint64_t seed,
                            std::int64_t max_new_tokens) {
  const std::int64_t place = free_slot();
  if (prompt.empty()) throw UsageError("a prompt has no tokens");
  const auto total = static_cast<std::int64_t>(prompt.size()) + max_new_tokens;
  if (total > capacity_) {
    throw UsageError("prompt and new tokens are " + std::to_string(total) + ", a slot holds " +
                     std::to_string(capacity_));
  }
  if (max_new_tokens > 1 && !state_.ssd().variant->causal()) {
    throw UsageError("variant " + std::string(state_.ssd().variant->name) +
                     " has no decode form: expected one new token");
  }
  Slot& slot = slots_[static_cast<std::size_t>(place)];
  slot = {};
  slot.seed = seed;
  slot.max_new_tokens = max_new_tokens;
  // A GPU's steps run through free slots, too.
  model_.reset(state_, place);
  const TraceRegion region("prefill");
  slot.use = Slot::Use::decoding;
  try {
    model_.prefill(prompt, state_, place, options_.prefill_tokens, LogitsRows::last,
                   sink_of_rows());
  } catch (...) {
    slot.use = Slot::Use::free;
    model_.reset(state_, place);
    throw;
  }
  ++active_;
}

std::vector<BatchedResult> ContinuousBatch::advance() {
  if (!any_ended() && active_ > 0) {
    const TraceRegion region("decode");
    if (model_.has_decoder(state_)) {
      steps_on_device();
    } else {
      while (!any_ended()) step_on_host();
    }
  }
  return leave();
}

template <class Take>
void ContinuousBatch::count_step(std::int64_t place, std::int64_t sequences, const Take& take) {
  Slot& slot = slots_[static_cast<std::size_t>(place)];
  ++slot.steps;
  slot.step_sequences += sequences;
  try {
    take();
  } catch (const std::domain_error& error) {
    slot.error = error.what();
    slot.use = Slot::Use::ended;
  }
}

// As many sequences at once as the products' rows stay what they are alone.
void ContinuousBatch::step_on_host() {
  const TraceRegion region("step", TraceDetail::step);
  const std::vector<std::int64_t> places = decoding();
  const auto sequences = static_cast<std::int64_t>(places.size());
  const LogitsSink take = [&](std::int64_t place, std::int64_t, View<const float, 2> row) {
    count_step(place, sequences, [&] { accept(place, row, 0); });
  };
  std::vector<std::span<const std::int32_t>> batch(slots_.size());
  std::int64_t together = 0;
  const auto run = [&] {
    model_.forward(batch, state_, LogitsRows::last, take);
    std::fill(batch.begin(), batch.end(), std::span<const std::int32_t>());
    together = 0;
  };
  for (const std::int64_t place : places) {
    const auto s = static_cast<std::size_t>(place);
    batch[s] = std::span(slots_[s].generated.tokens).last(1);
    if (++together == same_sums_tokens) run();
  }
  if (together > 0) run();
}

// Steps advance every slot of the state, free ones from its first position on: those never run
// further than the sequence that ends first. Greedy steps are launched ahead of what the host has
// seen, until a stop token appears: what is open by then still counts for the others.
void ContinuousBatch::steps_on_device() {
  Decoder& decoder = model_.decoder(state_);
  const bool greedy = options_.greedy();
  const std::int64_t ahead = greedy ? Decoder::max_ahead : 1;
  std::vector<std::int32_t> newest;
  for (const Slot& slot : slots_) {
    newest.push_back(slot.use == Slot::Use::decoding ? slot.generated.tokens.back() : 0);
  }
  decoder.start(state_, newest);
  std::int64_t to_launch = fewest_left();
  while (true) {
    const TraceRegion region("step", TraceDetail::step);
    while (to_launch > 0 && !any_ended() && decoder.open_steps() < ahead) {
      decoder.launch();
      --to_launch;
    }
    if (decoder.open_steps() == 0) return;
    const std::vector<Sampled> sampled = decoder.collect_unchecked();
    const View<const float, 2> logits = greedy ? View<const float, 2>() : decoder.logits();
    const std::vector<std::int64_t> places = decoding();
    for (const std::int64_t place : places) {
      const auto s = static_cast<std::size_t>(place);
      state_.advance(place, 1);
      count_step(place, static_cast<std::int64_t>(places.size()), [&] {
        if (!greedy) return accept(place, logits, place);
        check_sampled(sampled[s]);
        emit(place, sampled[s]);
      });
      newest[s] = slots_[s].generated.tokens.back();
    }
    if (!greedy) decoder.set_tokens(newest);
  }
}

std::vector<std::int64_t> ContinuousBatch::decoding() const {
  std::vector<std::int64_t> places;
  for (std::size_t s = 0; s < slots_.size(); ++s) {
    if (slots_[s].use == Slot::Use::decoding) places.push_back(static_cast<std::int64_t>(s));
  }
  return places;
}

bool ContinuousBatch::any_ended() const {
  return std::any_of(slots_.begin(), slots_.end(),
                     [](const Slot& slot) { return slot.use == Slot::Use::ended; });
}

// Tokens until the first of the sequences has all of its own.
std::int64_t ContinuousBatch::fewest_left() const {
  std::int64_t fewest = std::numeric_limits<std::int64_t>::max();
  for (const Slot& slot : slots_) {
    if (slot.use != Slot::Use::decoding) continue;
    fewest = std::min(
        fewest, slot.max_new_tokens - static_cast<std::int64_t>(slot.generated.tokens.size()));
  }
  return fewest;
}

// As generate() takes them, so that a log-probability has the same bits.
RowSink ContinuousBatch::sink_of_rows() {
  if (options_.greedy()) {
    return GreedySink([this](std::int64_t slot, const Sampled& sampled) { emit(slot, sampled); });
  }
  return LogitsSink([this](std::int64_t slot, std::int64_t, View<const float, 2> logits) {
    accept(slot, logits, 0);
  });
}

void ContinuousBatch::accept(std::int64_t slot, View<const float, 2> logits, std::int64_t row) {
  const Slot& at = slots_[static_cast<std::size_t>(slot)];
  emit(slot, at.generated.next(options_, at.seed, logits, row));
}

void ContinuousBatch::emit(std::int64_t slot, const Sampled& sampled) {
  Slot& at = slots_[static_cast<std::size_t>(slot)];
  at.generated.append(sampled, options_);
  const bool whole = static_cast<std::int64_t>(at.generated.tokens.size()) >= at.max_new_tokens;
  if (at.generated.stopped || whole) at.use = Slot::Use::ended;
  if (sink_) sink_(slot, sampled);
}

std::vector<BatchedResult> ContinuousBatch::leave() {
  std::vector<BatchedResult> results;
  for (std::size_t s = 0; s < slots_.size(); ++s) {
    Slot& slot = slots_[s];
    if (slot.use != Slot::Use::ended) continue;
    BatchedResult result{static_cast<std::int64_t>(s), std::move(slot.generated),
                         std::move(slot.error)};
    if (slot.steps > 0) {
      result.mean_batch =
          static_cast<double>(slot.step_sequences) / static_cast<double>(slot.steps);
    }
    results.push_back(std::move(result));
    slot = {};
    // So that a GPU's steps through it begin where there is room.
    model_.reset(state_, static_cast<std::int64_t>(s));
  }
  active_ -= static_cast<std::int64_t>(results.size());
  return results;
}

}  // namespace chunkstate
