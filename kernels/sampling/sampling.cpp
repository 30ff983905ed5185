// SPDX-License-Identifier: Apache-2.0
#include "kernels/sampling/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "kernels/base/check.hpp"
#include "kernels/sampling/log_probability.hpp"

namespace chunkstate {
namespace {

/// splitmix64's output function: every bit of `x` changes about half the bits of the result.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}

/// Uniform in [0, 1), a function of (seed, step): mixed twice, so that neighbouring seeds and
/// neighbouring steps are unrelated.
double uniform(std::uint64_t seed, std::uint64_t step) {
  return static_cast<double>(mix(mix(seed) ^ step) >> 11) * 0x1p-53;
}

struct Candidate {
  std::int32_t token;
  double weight;  // exp((logit - largest) / temperature)
};

bool before(const Candidate& a, const Candidate& b) {
  return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
}

/// Applies top-k, then top-p. Leaves the candidates in falling order if either was asked for.
void cut(std::vector<Candidate>& candidates, const SamplingParams& params) {
  const bool nucleus = params.top_p < 1.0F;
  const auto k = static_cast<std::size_t>(std::max(params.top_k, 0));
  if (k > 0 && k < candidates.size()) {
    std::partial_sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(k),
                      candidates.end(), before);
    candidates.resize(k);
  } else if (nucleus) {
    std::sort(candidates.begin(), candidates.end(), before);
  }
  if (!nucleus) return;
  double total = 0.0;
  for (const Candidate& c : candidates) total += c.weight;
  double reached = 0.0;
  std::size_t kept = 0;
  while (kept < candidates.size() && (kept == 0 || reached < params.top_p * total)) {
    reached += candidates[kept++].weight;
  }
  candidates.resize(kept);
}

std::int32_t draw(const std::vector<Candidate>& candidates, double u) {
  double total = 0.0;
  for (const Candidate& c : candidates) total += c.weight;
  double left = u * total;
  for (const Candidate& c : candidates) {
    left -= c.weight;
    if (left < 0.0) return c.token;
  }
  // Rounding may leave `left` at zero: the last one that can be drawn.
  for (std::size_t i = candidates.size(); i-- > 0;) {
    if (candidates[i].weight > 0.0) return candidates[i].token;
  }
  return candidates.front().token;
}

}  // namespace

Sampled sample(View<const float, 1> logits, const SamplingParams& params, std::uint64_t seed,
               std::uint64_t step) {
  const auto vocab = static_cast<std::int32_t>(logits.extent[0]);
  if (vocab < 1 || !logits) throw ShapeError("sample: logits has no elements");
  const RowSummary row = summarize({logits.data, static_cast<std::size_t>(vocab)});
  std::int32_t token = row.token;
  if (params.temperature > 0.0F) {
    thread_local std::vector<Candidate> candidates;  // nothing is allocated per token
    candidates.resize(static_cast<std::size_t>(vocab));
    for (std::int32_t i = 0; i < vocab; ++i) {
      candidates[i] = {i, std::exp((logits(i) - row.largest) / params.temperature)};
    }
    cut(candidates, params);
    token = draw(candidates, uniform(seed, step));
  }
  return {token, static_cast<float>(logits(token) - row.log_sum_exp)};
}

}  // namespace chunkstate
