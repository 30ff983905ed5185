// SPDX-License-Identifier: Apache-2.0
#include "kernels/sampling/sampling.hpp"

#include <map>

#include "kernels/base/check.hpp"
#include "kernels/sampling/log_probability.hpp"
#include "tests/kernels/numbers.hpp"

using namespace chunkstate;
using namespace chunkstate::test;

namespace {

Sampled draw(std::vector<float> logits, const SamplingParams& params, std::uint64_t seed = 1,
             std::uint64_t step = 0) {
  return sample({logits.data(), {static_cast<std::int64_t>(logits.size())}}, params, seed, step);
}

std::map<std::int32_t, double> frequencies(const std::vector<float>& logits,
                                           const SamplingParams& params) {
  std::map<std::int32_t, double> result;
  constexpr int draws = 20000;
  for (int i = 0; i < draws; ++i) {
    result[draw(logits, params, 42, static_cast<std::uint64_t>(i)).token] += 1.0 / draws;
  }
  return result;
}

// Probabilities 0.5, 0.25, 0.125, 0.125.
const std::vector<float> halves{std::log(4.0F), std::log(2.0F), 0.0F, 0.0F};

}  // namespace

TEST_CASE("Greedy takes the largest logit and the smallest id among equals") {
  CHECK(draw({1, 3, 2, 3}, {}).token == 1);
  CHECK(draw({-5}, {}).token == 0);
}

TEST_CASE("The log probability is that of the unmodified logits") {
  CHECK(draw(halves, {}).logprob == Approx(std::log(0.5)));
  CHECK(draw(halves, {.temperature = 0.01F, .top_k = 1}).logprob == Approx(std::log(0.5)));
}

TEST_CASE("Sampling at temperature 1 follows the softmax") {
  auto found = frequencies(halves, {.temperature = 1.0F});
  CHECK(found[0] == Approx(0.5).margin(0.015));
  CHECK(found[1] == Approx(0.25).margin(0.015));
  CHECK(found[2] == Approx(0.125).margin(0.01));
  CHECK(found[3] == Approx(0.125).margin(0.01));
}

TEST_CASE("Temperature sharpens the distribution") {
  auto found = frequencies(halves, {.temperature = 0.5F});  // weights 16 : 4 : 1 : 1
  CHECK(found[0] == Approx(16.0 / 22).margin(0.015));
  CHECK(found[1] == Approx(4.0 / 22).margin(0.015));
}

TEST_CASE("top_k keeps the k largest, ties by id") {
  auto found = frequencies(halves, {.temperature = 1.0F, .top_k = 3});
  CHECK(found.count(3) == 0);
  CHECK(found[0] == Approx(4.0 / 7).margin(0.015));
  CHECK(frequencies(halves, {.temperature = 1.0F, .top_k = 1}).size() == 1);
}

TEST_CASE("top_p keeps the fewest tokens that reach it, at least one") {
  CHECK(frequencies(halves, {.temperature = 1.0F, .top_p = 0.5F}).size() == 1);
  CHECK(frequencies(halves, {.temperature = 1.0F, .top_p = 0.6F}).size() == 2);
  CHECK(frequencies(halves, {.temperature = 1.0F, .top_p = 0.0F}).size() == 1);
  // Within the two that top_k leaves, the first has two thirds.
  CHECK(frequencies(halves, {.temperature = 1.0F, .top_k = 2, .top_p = 0.6F}).size() == 1);
}

TEST_CASE("A draw is a function of seed and step") {
  const SamplingParams params{.temperature = 1.0F};
  const std::vector<float> flat(1000, 0.0F);
  CHECK(draw(flat, params, 1, 5).token == draw(flat, params, 1, 5).token);
  std::map<std::int32_t, int> seen;
  for (std::uint64_t i = 0; i < 20; ++i) {
    ++seen[draw(flat, params, 1, i).token];
    ++seen[draw(flat, params, 1 + i, 0).token];
  }
  CHECK(seen.size() > 30);
}

TEST_CASE("Masked tokens are never drawn") {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto found = frequencies({-infinity, 0.0F, -infinity}, {.temperature = 5.0F});
  CHECK(found.size() == 1);
  CHECK(found.count(1) == 1);
}

TEST_CASE(
    "A row's log-sum-exp, its largest logit and the divergence of two rows are those defined") {
  CHECK(summarize(std::vector<float>{0.0F, 0.0F}).log_sum_exp == Approx(std::log(2.0)));
  CHECK(summarize(std::vector<float>{-INFINITY, 3.0F, 3.0F}).token == 1);
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0.0F, 4.0F);
  for (const std::size_t count : {1U, 15U, 16U, 17U, 1000U}) {
    std::vector<float> p(count), q(count);
    for (float& value : p) value = normal(random);
    for (float& value : q) value = normal(random);
    const auto norm = [](const std::vector<float>& row) {
      double sum = 0;
      for (const float value : row) sum += std::exp(static_cast<double>(value));
      return std::log(sum);
    };
    double kl = 0, apart = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const double log_p = p[i] - norm(p);
      kl += std::exp(log_p) * (log_p - (q[i] - norm(q)));
      apart = std::max(apart, std::abs(static_cast<double>(p[i]) - q[i]));
    }
    CAPTURE(count);
    const RowSummary of_p = summarize(p), of_q = summarize(q);
    CHECK(of_p.log_sum_exp == Approx(norm(p)).epsilon(1e-7));
    CHECK(of_p.token == std::max_element(p.begin(), p.end()) - p.begin());
    const RowDistance found = distance(p, of_p.log_sum_exp, q, of_q.log_sum_exp);
    CHECK(found.kl == Approx(kl).epsilon(1e-6).margin(1e-9));
    CHECK(found.logit_max_abs == Approx(apart).epsilon(1e-6));
    CHECK(distance(p, of_p.log_sum_exp, p, of_p.log_sum_exp).kl == 0.0);
  }
  CHECK_THROWS_AS(distance(std::vector<float>{1}, 0, std::vector<float>{1, 2}, 0), ShapeError);
}

TEST_CASE("Sampling rejects NaN, rows without a finite logit and empty rows") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK_THROWS_AS(draw({1.0F, std::nanf("")}, {}), std::domain_error);
  CHECK_THROWS_AS(draw({-infinity, -infinity}, {}), std::domain_error);
  CHECK_THROWS_AS(draw({1.0F, infinity}, {}), std::domain_error);
  CHECK_THROWS_AS(draw({}, {}), ShapeError);
}
