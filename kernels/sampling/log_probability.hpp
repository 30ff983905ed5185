// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace chunkstate {

/// Of the softmax of one row of logits.
struct RowSummary {
  std::int32_t token;  // of the largest logit, the smallest id among equals
  double largest;
  double log_sum_exp;  // so a token's log-probability is its logit minus this, in nats
};

/// On the host. Exponentials within 2 ulp of fp32, summed in double in an order that depends on the
/// row's length only. Throws ShapeError for an empty row and std::domain_error if a logit is NaN or
/// the largest is not finite.
RowSummary summarize(std::span<const float> logits);

/// How far `tested` is from `reference`, rows of one length.
struct RowDistance {
  double kl;             // KL(reference || tested) in nats, not below 0
  double logit_max_abs;  // the largest difference of two logits
};
RowDistance distance(std::span<const float> reference, double reference_log_sum_exp,
                     std::span<const float> tested, double tested_log_sum_exp);

}  // namespace chunkstate
