// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/model.hpp"
#include "kernels/sampling/sampling.hpp"

namespace chunkstate {

struct GenerateOptions {
  std::int64_t max_new_tokens = 100;
  /// Off: every new token recomputes the whole sequence from a zero state, as the seed project's
  /// runs did.
  bool use_cache = true;
  SamplingParams sampling;                // greedy by default
  std::vector<std::int32_t> stop_tokens;  // a sequence ends with the first of these it emits
  std::int64_t prefill_tokens = 0;  // longest piece of a prompt per forward pass; 0: whole prompts
  /// Given: its ranks share every prefill (SequenceSplit), which must be whole. All of them call
  /// generate() alike; the last one samples and decodes, and only it has results. The others return
  /// after the last prefill.
  RankGroup* group = nullptr;

  bool greedy() const { return sampling.temperature <= 0.0F; }
};

struct Generated {
  std::vector<std::int32_t> tokens;  // new ones only
  std::vector<float> logprobs;       // of each, nats
  bool stopped = false;              // by a stop token, which is the last of `tokens`

  /// Samples what follows `tokens` from a row of logits, with random numbers from `seed`. Throws
  /// std::domain_error where sample() does.
  Sampled next(const GenerateOptions& options, std::uint64_t seed, View<const float, 2> logits,
               std::int64_t row) const;
  /// Adds a token, and whether it is a stop token.
  void append(const Sampled& token, const GenerateOptions& options);
};

/// Called for every token as soon as it is known.
using TokenSink = std::function<void(std::int64_t sequence, const Sampled& token)>;

/// Continues every prompt. Prompts may differ in length; each is generated as if it were alone,
/// with random numbers from seeds[s] (one per prompt). `ssd` is the scan to use. Throws UsageError
/// for an empty prompt, and for a variant without a decode form unless use_cache is off. In a
/// group, an exception on the last rank is one on all only as long as they share prefills.
std::vector<Generated> generate(Model& model, const SsdSettings& ssd,
                                std::span<const std::vector<std::int32_t>> prompts,
                                std::span<const std::uint64_t> seeds,
                                const GenerateOptions& options, const TokenSink& sink = {});

/// Negative log-likelihoods in nats of tokens[1], tokens[2], ... given those before: size - 1
/// values. Throws UsageError for fewer than two tokens. Given `group`, its ranks share the
/// sequence, whole; all of them call score() alike and get all values.
std::vector<float> score(Model& model, const SsdSettings& ssd, std::span<const std::int32_t> tokens,
                         std::int64_t prefill_tokens = 0, RankGroup* group = nullptr);

}  // namespace chunkstate
