// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace chunkstate {

/// Directions of GPTScore and their means, nats per token (core/gpt_score.hpp).
struct AspectScore {
  double source = std::numeric_limits<double>::quiet_NaN();     // prompt -> output
  double precision = std::numeric_limits<double>::quiet_NaN();  // answer -> output
  double recall = std::numeric_limits<double>::quiet_NaN();     // output -> answer
  double average = std::numeric_limits<double>::quiet_NaN();
  double harmonic = std::numeric_limits<double>::quiet_NaN();
};

inline constexpr std::array<const char*, 3> judged_aspects = {"quality", "naturalness",
                                                              "informativeness"};

/// What was computed of a request's output after the timed runs: an `evaluation` line of the
/// journal, a row of /accuracy. Greedy requests repeat bit for bit, so only repeat 0 has one. NaN
/// and -1 mean missing.
struct Evaluation {
  std::string item_id;
  std::string error;  // "class: message"; empty if it could be computed

  double nll_prompt = std::numeric_limits<double>::quiet_NaN();
  double nll_answer = std::numeric_limits<double>::quiet_NaN();
  double nll_mean = std::numeric_limits<double>::quiet_NaN();
  double reference_nll_mean = std::numeric_limits<double>::quiet_NaN();
  double kl_mean = std::numeric_limits<double>::quiet_NaN();
  double kl_max = std::numeric_limits<double>::quiet_NaN();
  double top1_agreement = std::numeric_limits<double>::quiet_NaN();
  double logit_max_abs = std::numeric_limits<double>::quiet_NaN();
  /// Generated tokens before the first that differs from the reference's; tokens_out if none does.
  std::int64_t first_divergence = -1;
  std::vector<double> state_drift;  // per mamba layer

  std::array<AspectScore, judged_aspects.size()> gptscore;
};

}  // namespace chunkstate
