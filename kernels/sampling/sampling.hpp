// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/base/view.hpp"

namespace chunkstate {

/// How the next token is chosen from its logits.
struct SamplingParams {
  float temperature = 0.0F;  // 0 means greedy: the largest logit, the smallest id among equals
  std::int32_t top_k = 0;    // keep the k largest logits; 0 means all
  float top_p = 1.0F;        // then keep the fewest of them whose probabilities reach top_p
};

struct Sampled {
  std::int32_t token;
  float logprob;  // of the token under the softmax of the unmodified logits, in nats
};

/// Draws one token on the host. The random number is a function of (seed, step) alone, so a
/// sequence's text does not depend on what else is sampled beside it. Throws ShapeError for an
/// empty row and std::domain_error if no logit is finite or one is NaN.
Sampled sample(View<const float, 1> logits, const SamplingParams& params, std::uint64_t seed,
               std::uint64_t step);

}  // namespace chunkstate
