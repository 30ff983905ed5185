// SPDX-License-Identifier: Apache-2.0
#include "kernels/sampling/sampling.hpp"

#include <map>

#include "kernels/base/check.hpp"
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

TEST_CASE("Sampling rejects NaN, rows without a finite logit and empty rows") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK_THROWS_AS(draw({1.0F, std::nanf("")}, {}), std::domain_error);
  CHECK_THROWS_AS(draw({-infinity, -infinity}, {}), std::domain_error);
  CHECK_THROWS_AS(draw({1.0F, infinity}, {}), std::domain_error);
  CHECK_THROWS_AS(draw({}, {}), ShapeError);
}
