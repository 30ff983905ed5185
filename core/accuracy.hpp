// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/model.hpp"

namespace chunkstate {

/// How far a model's predictions are from a reference's on the same tokens (teacher forcing): for
/// every token after the first, both predict it from those before. Logarithms are natural. NaN
/// where there is nothing to average.
struct Accuracy {
  double nll_prompt;          // mean -log p(token) of the tested model over the prompt's tokens
  double nll_answer;          // over the tokens after the prompt
  double nll_mean;            // over both
  double reference_nll_mean;  // the same of the reference
  double kl_mean;             // mean of KL(reference || tested), nats per token
  double kl_max;
  double top1_agreement;  // share of tokens where both have the same likeliest one, 0 .. 1
  double logit_max_abs;   // largest |difference of a logit|
  /// Per mamba layer, after the last token: |S - S_ref| / |S_ref| in the Euclidean norm, S the sum
  /// of the states that a next token could read. Empty if not asked for.
  std::vector<double> state_drift;
};

struct AccuracyOptions {
  std::int64_t prompt_tokens = 0;  // tokens[0, prompt_tokens) are the prompt
  bool state_drift = false;
  std::int64_t piece_tokens = 64;  // per forward pass: bounds the memory for logits
};

/// Runs both models over `tokens` side by side. They must share the vocabulary and, for
/// state_drift, the shapes of their layers. Throws UsageError for fewer than two tokens or another
/// vocabulary, std::domain_error for logits that are not finite.
Accuracy compare_predictions(Model& reference, const SsdSettings& reference_ssd, Model& tested,
                             const SsdSettings& tested_ssd, std::span<const std::int32_t> tokens,
                             const AccuracyOptions& options);

/// The index of the first token in which two texts differ; the shorter one's end counts. -1 if
/// they are equal.
std::int64_t first_divergence(std::span<const std::int32_t> a, std::span<const std::int32_t> b);

}  // namespace chunkstate
