// SPDX-License-Identifier: Apache-2.0
#include "kernels/sampling/log_probability.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "kernels/base/check.hpp"
#include "kernels/base/vector_math.hpp"

namespace chunkstate {
namespace {

// Element i goes to sum i % lanes, whatever the instruction set.
constexpr std::int64_t lanes = 16;

CHUNKSTATE_MULTIVERSION
float largest_of(const float* logits, std::int64_t count, bool& has_nan) {
  float largest = -std::numeric_limits<float>::infinity();
  int unordered = 0;
#pragma omp simd reduction(max : largest) reduction(| : unordered)
  for (std::int64_t i = 0; i < count; ++i) {
    largest = logits[i] > largest ? logits[i] : largest;
    unordered |= logits[i] != logits[i];
  }
  has_nan = unordered != 0;
  return largest;
}

CHUNKSTATE_MULTIVERSION
double sum_of_exponentials(const float* logits, std::int64_t count, float largest) {
  double sums[lanes] = {};
  const std::int64_t whole = count / lanes * lanes;
  for (std::int64_t i = 0; i < whole; i += lanes) {
#pragma omp simd
    for (std::int64_t l = 0; l < lanes; ++l) sums[l] += fast_exp(logits[i + l] - largest);
  }
  for (std::int64_t i = whole; i < count; ++i) sums[i - whole] += fast_exp(logits[i] - largest);
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum;
}

// The sum of p (log p - log q), and the largest difference of logits.
CHUNKSTATE_MULTIVERSION
double divergence(const float* reference, double reference_norm, const float* tested,
                  double tested_norm, std::int64_t count, double& logit_max_abs) {
  double sums[lanes] = {};
  float differences[lanes] = {};
  for (std::int64_t i = 0; i < count; i += lanes) {
    const std::int64_t here = std::min(lanes, count - i);
#pragma omp simd
    for (std::int64_t l = 0; l < here; ++l) {
      const double log_p = static_cast<double>(reference[i + l]) - reference_norm;
      const double log_q = static_cast<double>(tested[i + l]) - tested_norm;
      sums[l] += static_cast<double>(fast_exp(static_cast<float>(log_p))) * (log_p - log_q);
      const float difference = std::fabs(tested[i + l] - reference[i + l]);
      differences[l] = difference > differences[l] ? difference : differences[l];
    }
  }
  double sum = 0;
  for (const double part : sums) sum += part;
  logit_max_abs = *std::max_element(differences, differences + lanes);
  return sum;
}

}  // namespace

RowSummary summarize(std::span<const float> logits) {
  const auto count = static_cast<std::int64_t>(logits.size());
  if (count == 0) throw ShapeError("summarize: logits has no elements");
  bool has_nan = false;
  const float largest = largest_of(logits.data(), count, has_nan);
  if (has_nan) {
    const auto nan = std::find_if(logits.begin(), logits.end(), [](float x) { return x != x; });
    throw std::domain_error("logit " + std::to_string(nan - logits.begin()) + " is NaN");
  }
  if (!std::isfinite(largest)) {
    throw std::domain_error("the largest logit is " + std::to_string(largest));
  }
  const auto token = std::find(logits.begin(), logits.end(), largest) - logits.begin();
  const double sum = sum_of_exponentials(logits.data(), count, largest);
  return {static_cast<std::int32_t>(token), largest, largest + std::log(sum)};
}

RowDistance distance(std::span<const float> reference, double reference_log_sum_exp,
                     std::span<const float> tested, double tested_log_sum_exp) {
  if (reference.size() != tested.size()) {
    throw ShapeError("distance: tested has " + std::to_string(tested.size()) +
                     " logits, expected " + std::to_string(reference.size()));
  }
  RowDistance result{};
  const double kl =
      divergence(reference.data(), reference_log_sum_exp, tested.data(), tested_log_sum_exp,
                 static_cast<std::int64_t>(reference.size()), result.logit_max_abs);
  result.kl = std::max(kl, 0.0);  // rounding can leave -1e-17 for equal rows
  return result;
}

}  // namespace chunkstate
