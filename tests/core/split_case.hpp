// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <ostream>
#include <random>
#include <vector>

#include "core/generate.hpp"
#include "core/model.hpp"
#include "core/open_model.hpp"
#include "core/sequence_split.hpp"
#include "parallel/mailbox_group.hpp"
#include "tests/catch.hpp"

namespace chunkstate {

inline std::ostream& operator<<(std::ostream& out, const Range& range) {
  return out << "[" << range.begin << ", " << range.end << ")";
}

/// A model, a scan and a sequence, with what follows it in decoding.
struct SplitCase {
  unsigned seed = 0;
  ModelConfig config;
  SsdSettings ssd;
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> next;
};

inline SplitCase draw_split_case(unsigned seed) {
  std::mt19937 random(seed);
  const auto pick = [&](std::initializer_list<std::int64_t> choices) {
    return choices.begin()[random() % choices.size()];
  };
  SplitCase drawn;
  drawn.seed = seed;
  ModelConfig& c = drawn.config;
  c.family = "bamba";
  c.vocab_size = 61;
  c.groups = pick({1, 2});
  c.mamba_heads = c.groups * pick({2, 3});  // a norm over too few channels may divide by nothing
  c.mamba_head_dim = pick({5, 8, 13, 16});
  c.state_dim = pick({1, 7, 16, 33});
  c.conv_taps = pick({2, 4, 6});
  c.conv_bias = pick({0, 1}) == 1;
  c.hidden_size = 24;
  c.intermediate_size = 40;
  c.chunk_size = pick({1, 8, 16, 20, 100});
  c.kv_heads = pick({1, 2});
  c.attention_heads = c.kv_heads * pick({1, 3});
  c.attention_head_dim = 8;
  c.rotary_dim = 4;
  c.layers = {LayerKind::mamba, LayerKind::attention, LayerKind::mamba, LayerKind::mamba};
  const auto variants = ssd_variants();
  drawn.ssd = ssd_settings(std::string(variants[seed % variants.size()].name), c.chunk_size,
                           pick({0, 1, 2, 5}), c);
  const std::int64_t count = pick({1, 2, 5, 17, 64, 65, 129, 300, 517, 900});
  for (std::int64_t t = 0; t < count + 5; ++t) {
    auto& list = t < count ? drawn.tokens : drawn.next;
    list.push_back(static_cast<std::int32_t>(random() % static_cast<unsigned>(c.vocab_size)));
  }
  if (!drawn.ssd.variant->causal()) drawn.next.clear();  // it has no decode form
  return drawn;
}

inline Model make_split_model(const SplitCase& c, DType dtype = DType::fp32) {
  ModelOptions options;
  options.dtype = dtype;
  options.residual_dtype = dtype;
  return {c.config, make_synthetic_checkpoint(c.config, c.seed, DType::bf16), options};
}

/// 1 to 4 ranks, any borders (chunk borders for what is not causal), some ranks without tokens.
inline std::vector<Range> random_ranges(const SplitCase& c, unsigned seed, int ranks = 0) {
  std::mt19937 random(seed + 1000);
  if (ranks == 0) ranks = 1 + static_cast<int>(random() % 4);
  const auto count = static_cast<std::int64_t>(c.tokens.size());
  std::vector<std::int64_t> cuts = {0, count};
  for (int i = 1; i < ranks; ++i) {
    std::int64_t cut = static_cast<std::int64_t>(random()) % (count + 1);
    if (!c.ssd.variant->causal()) cut = cut / c.ssd.chunk_size * c.ssd.chunk_size;
    cuts.push_back(cut);
  }
  std::sort(cuts.begin(), cuts.end());
  std::vector<Range> ranges;
  for (std::size_t i = 0; i + 1 < cuts.size(); ++i) ranges.push_back({cuts[i], cuts[i + 1]});
  return ranges;
}

struct SplitResult {
  std::vector<float> logits;  // of all tokens, then of the decoded ones
  std::vector<float> nll;
  std::vector<float> states;  // the owner's, after the last token of the prompt
  bool operator==(const SplitResult&) const = default;
};

inline void append(SplitResult& whole, const SplitResult& part) {
  whole.logits.insert(whole.logits.end(), part.logits.begin(), part.logits.end());
  whole.nll.insert(whole.nll.end(), part.nll.begin(), part.nll.end());
  whole.states.insert(whole.states.end(), part.states.begin(), part.states.end());
}

inline LogitsSink logits_into(SplitResult& result, const SplitCase& c) {
  return [&](std::int64_t, std::int64_t first_token, View<const float, 2> rows) {
    for (std::int64_t row = 0; row < rows.extent[0]; ++row) {
      const float* values = rows.data + row * rows.extent[1];
      result.logits.insert(result.logits.end(), values, values + rows.extent[1]);
      const auto next = static_cast<std::size_t>(first_token + row + 1);
      if (next >= c.tokens.size()) continue;
      double sum = 0;
      for (std::int64_t i = 0; i < rows.extent[1]; ++i) sum += std::exp(double{values[i]});
      result.nll.push_back(static_cast<float>(std::log(sum) - double{values[c.tokens[next]]}));
    }
  };
}

inline void collect_states(SequenceState& state, const ModelConfig& config, std::int64_t tokens,
                           std::vector<float>& values) {
  const auto take = [&](const auto& view) {
    const AnyView<1> flat(view.data, view.dtype, {view.extent[0] * view.stride[0]});
    for (std::int64_t i = 0; i < flat.extent[0]; ++i) values.push_back(flat.load(i));
  };
  for (std::size_t layer = 0; layer < config.layers.size(); ++layer) {
    if (config.layers[layer] == LayerKind::mamba) {
      take(state.conv_window(layer)[0]);
      take(state.ssd_state(layer)[0]);
    } else {
      take(state.keys(layer)[0].slice(0, 0, tokens));
      take(state.values(layer)[0].slice(0, 0, tokens));
    }
  }
}

// The prompt is in; what the owner of its end can say.
inline void finish(Model& model, const SplitCase& c, SequenceState& state, SplitResult& result) {
  collect_states(state, c.config, static_cast<std::int64_t>(c.tokens.size()), result.states);
  for (const std::int32_t token : c.next) {
    const std::vector<std::span<const std::int32_t>> one = {{&token, 1}};
    model.forward(one, state, LogitsRows::all,
                  [&](std::int64_t, std::int64_t, View<const float, 2> row) {
                    result.logits.insert(result.logits.end(), row.data, row.data + row.extent[1]);
                  });
  }
}

inline SequenceState state_for(const Model& model, const SplitCase& c) {
  return model.make_state(c.ssd, 1, static_cast<std::int64_t>(c.tokens.size() + c.next.size()));
}

inline SplitResult run_alone(Model& model, const SplitCase& c) {
  SplitResult result;
  SequenceState state = state_for(model, c);
  const std::vector<std::span<const std::int32_t>> batch = {c.tokens};
  model.forward(batch, state, LogitsRows::all, logits_into(result, c));
  finish(model, c, state, result);
  return result;
}

/// This rank's part.
inline SplitResult run_split(Model& model, const SplitCase& c, RankGroup& group,
                             const std::vector<Range>& ranges) {
  SplitResult result;
  SequenceState state = state_for(model, c);
  SequenceSplit split(group, ranges);
  model.forward_split(c.tokens, state, 0, split, LogitsRows::all, logits_into(result, c));
  if (split.is_owner()) finish(model, c, state, result);
  return result;
}

/// What ranks 0 to R - 1 give together, each with a model of its own.
template <class MakeModel>
SplitResult run_ranks(MakeModel&& make_model, const SplitCase& c, const std::vector<Range>& ranges) {
  MailboxGroup group(static_cast<int>(ranges.size()));
  std::vector<SplitResult> parts(ranges.size());
  group.run([&](RankGroup& rank) {
    Model model = make_model();
    parts[static_cast<std::size_t>(rank.rank())] = run_split(model, c, rank, ranges);
  });
  CHECK(group.pending() == 0);
  SplitResult whole;
  for (const SplitResult& part : parts) append(whole, part);
  return whole;
}

/// Largest differences relative to the largest expected value of each kind.
struct Differences {
  double logits = 0;
  double nll = 0;
  double states = 0;
  double largest() const { return std::max({logits, nll, states}); }
};

inline double relative(const std::vector<float>& actual, const std::vector<float>& expected) {
  if (actual.size() != expected.size()) return INFINITY;
  double difference = 0;
  double largest = 1e-30;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (!std::isfinite(actual[i])) return INFINITY;
    difference = std::max(difference, std::abs(double{actual[i]} - double{expected[i]}));
    largest = std::max(largest, std::abs(double{expected[i]}));
  }
  return difference / largest;
}

inline Differences differences(const SplitResult& actual, const SplitResult& expected) {
  return {relative(actual.logits, expected.logits), relative(actual.nll, expected.nll),
          relative(actual.states, expected.states)};
}

}  // namespace chunkstate
