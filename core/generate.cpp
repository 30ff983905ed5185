// SPDX-License-Identifier: Apache-2.0
#include "core/generate.hpp"

#include <algorithm>
#include <cmath>

#include "core/errors.hpp"
#include "core/trace.hpp"
#include "kernels/sampling/log_probability.hpp"

namespace chunkstate {
namespace {

// The sequences of one generate() call and what each has emitted.
class Generation {
 public:
  Generation(Model& model, const SsdSettings& ssd,
             std::span<const std::vector<std::int32_t>> prompts,
             std::span<const std::uint64_t> seeds, const GenerateOptions& options,
             const TokenSink& sink)
      : model_(model),
        options_(options),
        sink_(sink),
        seeds_(seeds),
        sequences_(prompts.begin(), prompts.end()),
        results_(prompts.size()),
        state_(model.take_state(ssd, static_cast<std::int64_t>(prompts.size()), capacity())),
        step_(prompts.size()) {
    // A step allocates nothing.
    const auto more =
        static_cast<std::size_t>(std::min<std::int64_t>(options.max_new_tokens, 65536));
    for (auto& sequence : sequences_) sequence.reserve(sequence.size() + more);
    for (Generated& result : results_) {
      result.tokens.reserve(more);
      result.logprobs.reserve(more);
    }
  }
  ~Generation() { model_.keep_state(std::move(state_)); }
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  std::vector<Generated> run() {
    if (options_.max_new_tokens == 0) return std::move(results_);
    const RowSink take = sink_of_rows();
    prefill(take);
    if (options_.use_cache && !samples()) return {};
    const TraceRegion region("decode");
    if (options_.use_cache && options_.max_new_tokens > 1 && model_.has_decoder(state_)) {
      decode_on_device();
    }
    while (
        std::any_of(results_.begin(), results_.end(), [&](const auto& r) { return active(r); })) {
      if (options_.use_cache) {
        if (options_.group != nullptr) options_.group->beat();
        decode(take);
      } else {
        model_.reset(state_);
        prefill(take);
      }
    }
    return samples() ? std::move(results_) : std::vector<Generated>{};
  }

 private:
  // In a group the last rank holds the end of every sequence.
  bool samples() const {
    return options_.group == nullptr || options_.group->rank() + 1 == options_.group->size();
  }

  std::int64_t capacity() const {
    std::size_t longest = 0;
    for (const auto& sequence : sequences_) longest = std::max(longest, sequence.size());
    return static_cast<std::int64_t>(longest) + options_.max_new_tokens;
  }

  RowSink sink_of_rows() {
    if (options_.greedy()) {
      return GreedySink([this](std::int64_t sequence, const Sampled& sampled) {
        emit(static_cast<std::size_t>(sequence), sampled);
      });
    }
    return LogitsSink([this](std::int64_t sequence, std::int64_t, View<const float, 2> logits) {
      accept(static_cast<std::size_t>(sequence), logits, 0);
    });
  }

  bool active(const Generated& result) const {
    return !result.stopped &&
           static_cast<std::int64_t>(result.tokens.size()) < options_.max_new_tokens;
  }

  void prefill(const RowSink& take) {
    const TraceRegion region("prefill");
    if (options_.group != nullptr) {
      for (std::size_t s = 0; s < sequences_.size(); ++s) {
        if (active(results_[s])) prefill_together(s, take);
      }
      return;
    }
    if (options_.prefill_tokens == 0) return prefill_whole(take);
    for (std::size_t s = 0; s < sequences_.size(); ++s) {
      if (!active(results_[s])) continue;
      model_.prefill(sequences_[s], state_, static_cast<std::int64_t>(s), options_.prefill_tokens,
                     LogitsRows::last, take);
    }
  }

  // As many sequences in one pass as the backend likes.
  void prefill_whole(const RowSink& take) {
    std::vector<std::span<const std::int32_t>> batch(sequences_.size());
    std::int64_t together = 0;
    const auto run = [&] {
      if (together > 0) model_.forward(batch, state_, LogitsRows::last, take);
      std::fill(batch.begin(), batch.end(), std::span<const std::int32_t>());
      together = 0;
    };
    for (std::size_t s = 0; s < sequences_.size(); ++s) {
      if (!active(results_[s])) continue;
      const auto tokens = static_cast<std::int64_t>(sequences_[s].size());
      if (together > model_.longest_pass() - tokens) run();
      if (tokens > model_.longest_pass()) {
        model_.prefill(sequences_[s], state_, static_cast<std::int64_t>(s), 0, LogitsRows::last,
                       take);
        continue;
      }
      batch[s] = sequences_[s];
      together += tokens;
    }
    run();
  }

  void prefill_together(std::size_t s, const RowSink& take) {
    RankGroup& group = *options_.group;
    const auto tokens = static_cast<std::int64_t>(sequences_[s].size());
    SequenceSplit split(group, split_ranges(state_.ssd(), tokens, group.size()));
    const auto sequence = static_cast<std::int64_t>(s);
    if (options_.use_cache) {
      return model_.forward_split(sequences_[s], state_, sequence, split, LogitsRows::last, take);
    }
    // The others need the token for the next prefill, or the news that there is none.
    std::int32_t token = -1;
    try {
      model_.forward_split(sequences_[s], state_, sequence, split, LogitsRows::last, take);
      if (samples()) token = sequences_[s].back();
    } catch (const std::domain_error&) {
      tell_others(token);
      throw;
    }
    if (samples()) return tell_others(token);
    group.host_group().receive(std::as_writable_bytes(std::span(&token, 1)), group.size() - 1);
    if (token < 0) throw std::domain_error("the last rank of the group cannot sample");
    append(s, {token, 0.0F});
  }

  void tell_others(const std::int32_t& token) {
    RankGroup& group = options_.group->host_group();
    for (int to = 0; to + 1 < group.size(); ++to) {
      group.post(std::as_bytes(std::span(&token, 1)), to);
    }
    group.flush();
  }

  void decode(const RowSink& take) {
    const TraceRegion region("step", TraceDetail::step);
    for (std::size_t s = 0; s < sequences_.size(); ++s) {
      step_[s] = std::span(sequences_[s]).last(active(results_[s]) ? 1 : 0);
    }
    model_.forward(step_, state_, LogitsRows::last, take);
  }

  // All sequences step together until none is active; what the stopped ones go on to emit is
  // dropped. Greedy tokens are fed to the next step before the host sees them.
  void decode_on_device() {
    Decoder& decoder = model_.decoder(state_);
    const bool greedy = options_.greedy();
    const std::int64_t ahead = greedy ? Decoder::max_ahead : 1;
    std::vector<std::int32_t> newest;
    for (const auto& sequence : sequences_) newest.push_back(sequence.back());
    decoder.start(state_, newest);
    std::int64_t to_launch = options_.max_new_tokens - 1;
    const auto any_active = [this] {
      return std::any_of(results_.begin(), results_.end(),
                         [this](const auto& r) { return active(r); });
    };
    while (any_active()) {
      const TraceRegion region("step", TraceDetail::step);
      if (options_.group != nullptr) options_.group->beat();
      while (to_launch > 0 && decoder.open_steps() < ahead) {
        decoder.launch();
        --to_launch;
      }
      const std::vector<Sampled> sampled = decoder.collect();
      const View<const float, 2> logits = greedy ? View<const float, 2>() : decoder.logits();
      for (std::size_t s = 0; s < results_.size(); ++s) {
        if (!active(results_[s])) continue;
        if (greedy) {
          emit(s, sampled[s]);
        } else {
          accept(s, logits, static_cast<std::int64_t>(s));
          newest[s] = sequences_[s].back();
        }
      }
      if (!greedy) decoder.set_tokens(newest);
    }
    while (decoder.open_steps() > 0) decoder.collect();
  }

  void accept(std::size_t s, View<const float, 2> logits, std::int64_t row) {
    emit(s, results_[s].next(options_, seeds_[s], logits, row));
  }

  void emit(std::size_t s, const Sampled& sampled) {
    append(s, sampled);
    if (sink_) sink_(static_cast<std::int64_t>(s), sampled);
  }

  void append(std::size_t s, const Sampled& sampled) {
    results_[s].append(sampled, options_);
    sequences_[s].push_back(sampled.token);
  }

  Model& model_;
  const GenerateOptions& options_;
  const TokenSink& sink_;
  std::span<const std::uint64_t> seeds_;
  std::vector<std::vector<std::int32_t>> sequences_;  // prompt and emitted tokens
  std::vector<Generated> results_;
  SequenceState state_;
  std::vector<std::span<const std::int32_t>> step_;  // of each sequence in a step
};

void refuse_pieces(std::int64_t prefill_tokens) {
  if (prefill_tokens == 0) return;
  throw UsageError("a group of ranks shares whole prefills: prefill_tokens must be 0");
}

}  // namespace

Sampled Generated::next(const GenerateOptions& options, std::uint64_t seed,
                        View<const float, 2> logits, std::int64_t row) const {
  return sample({&logits(row, 0), {logits.extent[1]}}, options.sampling, seed, tokens.size());
}

void Generated::append(const Sampled& token, const GenerateOptions& options) {
  tokens.push_back(token.token);
  logprobs.push_back(token.logprob);
  stopped = std::find(options.stop_tokens.begin(), options.stop_tokens.end(), token.token) !=
            options.stop_tokens.end();
}

std::vector<Generated> generate(Model& model, const SsdSettings& ssd,
                                std::span<const std::vector<std::int32_t>> prompts,
                                std::span<const std::uint64_t> seeds,
                                const GenerateOptions& options, const TokenSink& sink) {
  if (seeds.size() != prompts.size()) throw std::logic_error("generate: one seed per prompt");
  if (options.group != nullptr) refuse_pieces(options.prefill_tokens);
  for (std::size_t s = 0; s < prompts.size(); ++s) {
    if (prompts[s].empty()) throw UsageError("prompt " + std::to_string(s) + " has no tokens");
  }
  if (options.use_cache && options.max_new_tokens > 1 && !ssd.variant->causal()) {
    throw UsageError("variant " + std::string(ssd.variant->name) +
                     " has no decode form: use_cache must be off");
  }
  return Generation(model, ssd, prompts, seeds, options, sink).run();
}

std::vector<float> score(Model& model, const SsdSettings& ssd, std::span<const std::int32_t> tokens,
                         std::int64_t prefill_tokens, RankGroup* group) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  if (count < 2) {
    throw UsageError("score: found " + std::to_string(count) + " tokens, expected at least 2");
  }
  std::vector<float> nll(tokens.size() - 1);
  SequenceState state = model.make_state(ssd, 1, count);
  const LogitsSink take = [&](std::int64_t, std::int64_t first_token, View<const float, 2> logits) {
    for (std::int64_t row = 0; row < logits.extent[0]; ++row) {
      const std::int64_t t = first_token + row;
      if (t + 1 >= count) return;
      const std::span<const float> values(logits.data + row * logits.extent[1],
                                          static_cast<std::size_t>(logits.extent[1]));
      const std::int32_t next = tokens[static_cast<std::size_t>(t + 1)];
      nll[static_cast<std::size_t>(t)] = static_cast<float>(summarize(values).log_sum_exp -
                                                            values[static_cast<std::size_t>(next)]);
    }
  };
  if (group == nullptr) {
    model.prefill(tokens, state, 0, prefill_tokens, LogitsRows::all, take);
    return nll;
  }
  refuse_pieces(prefill_tokens);
  SequenceSplit split(*group, split_ranges(ssd, count, group->size()));
  model.forward_split(tokens, state, 0, split, LogitsRows::all, take);
  group->host_group().all_reduce_sum(nll);  // the other ranks' values are zero
  return nll;
}

}  // namespace chunkstate
