// SPDX-License-Identifier: Apache-2.0
#include "experiments/analysis/comparison.hpp"

#include <cmath>
#include <random>
#include <vector>

#include "core/errors.hpp"
#include "tests/catch.hpp"

namespace chunkstate {
namespace {

// Prompts of very different lengths, each measured `repeats` times with lognormal noise.
std::vector<Sample> measured(unsigned seed, double factor, double noise, int prompts = 12,
                             int repeats = 5) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, noise);
  std::vector<Sample> samples;
  for (int p = 0; p < prompts; ++p) {
    for (int r = 0; r < repeats; ++r) {
      samples.push_back(
          {"prompt-" + std::to_string(p), factor * 0.1 * (p + 1) * std::exp(normal(random))});
    }
  }
  return samples;
}

Verdict verdict(const std::vector<Sample>& a, const std::vector<Sample>& b) {
  return verdict_of(compare_samples(a, b, Statistic::median, 1), 0.01);
}

}  // namespace

TEST_CASE("a run compared with itself is the same in every statistic") {
  const auto samples = measured(1, 1, 0.2, 30, 12);
  for (const Statistic s : {Statistic::median, Statistic::mean, Statistic::p90, Statistic::p99}) {
    const Change change = compare_samples(samples, samples, s, 1);
    CHECK(change.relative == 0);
    CHECK(verdict_of(change, 0.01) == Verdict::same);
  }
}

TEST_CASE("a statistic and its change are those of the values") {
  const std::vector<Sample> a = {{"x", 1}, {"x", 3}, {"y", 2}, {"only in a", 100}};
  const std::vector<Sample> b = {{"x", 4}, {"x", 4}, {"y", 4}};
  const Change median = compare_samples(a, b, Statistic::median, 1);
  CHECK(median.a == 2);
  CHECK(median.b == 4);
  CHECK(median.relative == 1);
  CHECK(median.prompts == 2);
  CHECK(median.unpaired == 1);
  CHECK(median.n_a == 3);
  CHECK(compare_samples(a, b, Statistic::mean, 1).a == 2);
  CHECK(std::isnan(compare_samples(a, b, Statistic::p90, 1).a));  // three values say no p90
}

TEST_CASE("a planted slowdown of 5 % is found, one of 0.2 % is not called slower") {
  int found = 0;
  int false_alarms = 0;
  constexpr int trials = 60;
  for (unsigned seed = 0; seed < trials; ++seed) {
    const auto base = measured(2 * seed, 1.0, 0.01);
    found += verdict(base, measured(2 * seed + 1, 1.05, 0.01)) == Verdict::higher ? 1 : 0;
    false_alarms += verdict(base, measured(2 * seed + 1, 1.002, 0.01)) == Verdict::higher ? 1 : 0;
    CHECK(verdict(base, measured(2 * seed + 1, 0.95, 0.01)) != Verdict::higher);
  }
  CHECK(found == trials);
  CHECK(false_alarms == 0);
}

TEST_CASE("the interval covers the true change in about 95 % of runs") {
  int covered = 0;
  constexpr int trials = 200;
  for (unsigned seed = 0; seed < trials; ++seed) {
    const Change change =
        compare_samples(measured(2 * seed, 1, 0.05, 20, 8),
                        measured(2 * seed + 1, 1.1, 0.05, 20, 8), Statistic::mean, seed);
    covered += change.ci_low <= 0.1 && 0.1 <= change.ci_high ? 1 : 0;
  }
  CHECK(covered >= 176);  // 88 %: bootstrap intervals of small samples are a little short
}

TEST_CASE("noise larger than the effect, or a single value, is ambiguous") {
  CHECK(verdict(measured(1, 1, 0.3, 4, 2), measured(2, 1.02, 0.3, 4, 2)) == Verdict::ambiguous);
  CHECK(verdict({{"x", 1}}, {{"x", 2}}) == Verdict::ambiguous);
  CHECK(verdict({{"x", 1}}, {{"y", 1}}) == Verdict::ambiguous);
}

TEST_CASE("a fail condition has a metric, a statistic, a direction and a bound in percent") {
  const FailCondition c = parse_fail_condition("tpot_p50 > +3%");
  CHECK(c.metric == "tpot");
  CHECK(c.statistic == Statistic::median);
  CHECK(c.above);
  CHECK(c.bound == Approx(0.03));
  CHECK(parse_fail_condition("ttft_p90>2.5 %").statistic == Statistic::p90);
  CHECK(parse_fail_condition("peak_memory_bytes > 1%").metric == "peak_memory_bytes");
  CHECK_FALSE(parse_fail_condition("throughput_mean < -5%").above);

  Change change;
  change.relative = 0.04;
  change.ci_low = 0.01;
  change.ci_high = 0.07;
  CHECK(c.holds(change));
  change.ci_low = -0.01;
  CHECK_FALSE(c.holds(change));
  change.ci_low = 0.01;
  change.relative = 0.02;
  CHECK_FALSE(c.holds(change));

  for (const char* bad : {"", "tpot", "tpot > 3", "> 3%", "tpot > x%", "tpot > nan%", "tpot > %",
                          "tpot > 1e999%", "tpot > 3%%"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(parse_fail_condition(bad), UsageError);
  }
}

}  // namespace chunkstate
