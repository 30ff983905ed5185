// SPDX-License-Identifier: Apache-2.0
#include "experiments/analysis/summary.hpp"

#include <cmath>
#include <numeric>
#include <random>

#include "tests/catch.hpp"

using namespace chunkstate;

namespace {

Statistics of(const std::vector<double>& values, const std::vector<std::int64_t>& repeats,
              std::uint64_t seed) {
  return summarize(std::vector<std::vector<double>>{values}, repeats, seed).at(0);
}

Statistics of(const std::vector<double>& values) {
  return of(values, std::vector<std::int64_t>(values.size(), 0), 1);
}

}  // namespace

TEST_CASE("quantiles interpolate between order statistics") {
  const std::vector<double> values{1, 2, 4, 8};
  CHECK(quantile(values, 0) == 1);
  CHECK(quantile(values, 0.5) == 3);
  CHECK(quantile(values, 0.9) == Approx(4 + 0.7 * 4));
  CHECK(quantile(values, 1) == 8);
  CHECK(quantile(std::vector<double>{5}, 0.99) == 5);
}

TEST_CASE("mean, median and deviation of a hand-made sample") {
  const Statistics s = of({2, 4, 4, 4, 5, 5, 7, 9});
  CHECK(s.n == 8);
  CHECK(s.mean == 5);
  CHECK(s.median == 4.5);
  CHECK(s.std == Approx(std::sqrt(32.0 / 7)));
  CHECK(s.ci_low >= 2);
  CHECK(s.ci_low <= s.median);
  CHECK(s.ci_high >= s.median);
  CHECK(s.ci_high <= 9);
}

TEST_CASE("missing values do not count") {
  const double nan = std::nan("");
  const Statistics s = of({nan, 1, nan, 3});
  CHECK(s.n == 2);
  CHECK(s.mean == 2);
  const Statistics none = of({nan, nan});
  CHECK(none.n == 0);
  CHECK(std::isnan(none.mean));
  CHECK(std::isnan(none.ci_low));
  CHECK(of({}).n == 0);
}

TEST_CASE("one value has no spread") {
  const Statistics s = of({3});
  CHECK(s.mean == 3);
  CHECK(s.median == 3);
  CHECK(std::isnan(s.std));
  CHECK(std::isnan(s.ci_low));
}

TEST_CASE("a percentile is stated from enough values only") {
  std::vector<double> values(299);
  std::iota(values.begin(), values.end(), 0.0);
  CHECK(std::isnan(of({values.begin(), values.begin() + 29}).p90));
  CHECK(of({values.begin(), values.begin() + 30}).p90 == Approx(26.1));
  CHECK(std::isnan(of(values).p99));
  values.push_back(299);
  CHECK(of(values).p99 == Approx(0.99 * 299));
}

TEST_CASE("equal arguments give equal bits, and the seed matters") {
  std::vector<double> values;
  std::mt19937_64 random(9);
  for (int i = 0; i < 50; ++i) values.push_back(static_cast<double>(random() % 1000003));
  const std::vector<std::int64_t> repeats(50, 0);
  const Statistics a = of(values, repeats, 1);
  const Statistics b = of(values, repeats, 1);
  CHECK(a.ci_low == b.ci_low);
  CHECK(a.ci_high == b.ci_high);
  const Statistics c = of(values, repeats, 2);
  CHECK((a.ci_low != c.ci_low || a.ci_high != c.ci_high));
}

TEST_CASE("the interval covers the true median about 95 times in 100") {
  std::mt19937_64 random(4);
  const auto uniform = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  int covered = 0;
  constexpr int trials = 300;
  for (int trial = 0; trial < trials; ++trial) {
    std::vector<double> values(40);
    for (double& value : values) value = -std::log(1 - uniform());
    const Statistics s =
        of(values, std::vector<std::int64_t>(40, 0), static_cast<std::uint64_t>(trial));
    if (s.ci_low <= std::log(2.0) && std::log(2.0) <= s.ci_high) ++covered;
  }
  // Binomial(300, 0.95) leaves [267, 298] once in 10^5; the bootstrap itself is a little narrow.
  CHECK(covered >= 267);
  CHECK(covered <= 298);
}

TEST_CASE("columns are summarized together as each on its own") {
  std::mt19937_64 random(6);
  std::vector<std::vector<double>> columns(3, std::vector<double>(200));
  for (auto& column : columns) {
    for (double& value : column) value = static_cast<double>(random() % 1009);
  }
  std::vector<std::int64_t> repeats;
  for (std::int64_t i = 0; i < 200; ++i) repeats.push_back(i % 3);
  const auto together = summarize(columns, repeats, 5);
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const Statistics alone = of(columns[i], repeats, 5);
    CHECK(together[i].mean == alone.mean);
    CHECK(together[i].ci_low == alone.ci_low);
    CHECK(together[i].ci_high == alone.ci_high);
    CHECK(alone.ci_low < alone.median);
    CHECK(alone.ci_high > alone.median);
  }
}

TEST_CASE("repeats that disagree widen the interval") {
  std::vector<double> values;
  std::vector<std::int64_t> repeats;
  for (int repeat = 0; repeat < 4; ++repeat) {
    for (int i = 0; i < 50; ++i) {
      values.push_back(10 * repeat + 0.01 * i);
      repeats.push_back(repeat);
    }
  }
  const Statistics apart = of(values, repeats, 1);
  const Statistics pooled = of(values, std::vector<std::int64_t>(values.size(), 0), 1);
  CHECK(apart.ci_high - apart.ci_low > 1.5 * (pooled.ci_high - pooled.ci_low));
}

TEST_CASE("as many repeats as values are needed") {
  CHECK_THROWS_AS(of({1, 2}, {0}, 1), std::invalid_argument);
}
