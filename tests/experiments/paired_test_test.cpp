// SPDX-License-Identifier: Apache-2.0
#include "experiments/analysis/paired_test.hpp"

#include <cmath>
#include <random>
#include <vector>

#include "tests/catch.hpp"

namespace chunkstate {
namespace {

double p_of(const std::vector<double>& differences) { return paired_test(differences, 1).p; }

}  // namespace

TEST_CASE("Wilcoxon's p is the share of sign patterns that are as lopsided") {
  CHECK(p_of({1}) == 1);
  CHECK(p_of({1, 2}) == 0.5);
  CHECK(p_of({1, 2, 3, 4, 5}) == Approx(2.0 / 32));
  CHECK(p_of({1, 2, 3, 4, 5, 6}) == Approx(2.0 / 64));
  CHECK(p_of({-1, 2, 3, 4, 5, 6}) == Approx(4.0 / 64));   // rank sums 0 and 1 of 64 patterns
  CHECK(p_of({1, 2, -3, 4, 5, 6}) == Approx(10.0 / 64));  // 0, 1, 2, 3 = 3 or 1 + 2
  CHECK(p_of({-1, 1, -1, 1}) == 1);                       // ties
  CHECK(p_of({2, 2, 2, 2}) == Approx(2.0 / 16));
}

TEST_CASE("zero and missing differences are no evidence") {
  const PairedTest none = paired_test(std::vector<double>{0, 0, 0}, 1);
  CHECK(none.p == 1);
  CHECK(none.equal == 3);
  CHECK(none.difference.n == 3);
  CHECK(none.difference.mean == 0);
  CHECK(std::isnan(paired_test(std::vector<double>{NAN}, 1).p));
  const PairedTest some = paired_test(std::vector<double>{NAN, 1, 2, 0, 3, 4, 5}, 1);
  CHECK(some.difference.n == 6);
  CHECK(some.difference.mean == 2.5);
  CHECK(some.p == Approx(2.0 / 32));
}

TEST_CASE("the exact test and the normal approximation meet") {
  std::mt19937 random(3);
  std::normal_distribution<double> normal(0.15, 1);
  std::vector<double> differences;
  for (int i = 0; i < 200; ++i) differences.push_back(normal(random));
  const double exact = p_of(differences);
  differences.push_back(1e-9);  // the least rank: hardly any evidence
  CHECK(p_of(differences) == Approx(exact).epsilon(0.05));
}

TEST_CASE("of two equal distributions one test in twenty says they differ") {
  std::mt19937 random(5);
  std::normal_distribution<double> normal(0, 1);
  int alarms = 0;
  int covered = 0;
  constexpr int trials = 1000;
  for (int trial = 0; trial < trials; ++trial) {
    std::vector<double> differences;
    for (int i = 0; i < 30; ++i) differences.push_back(normal(random));
    const PairedTest test = paired_test(differences, static_cast<std::uint64_t>(trial));
    alarms += test.p < 0.05 ? 1 : 0;
    covered += test.difference.low <= 0 && 0 <= test.difference.high ? 1 : 0;
  }
  CHECK(alarms >= 25);  // Binomial(1000, 0.05) leaves [25, 80] once in 10^4
  CHECK(alarms <= 80);
  CHECK(covered >= 910);  // a bootstrap interval of 30 values is a little short
  CHECK(covered <= 980);
}

TEST_CASE("Holm multiplies the smallest p by the number of tests, the next by one less") {
  const std::vector<double> corrected = holm(std::vector<double>{0.04, 0.01, NAN, 0.03});
  CHECK(corrected[1] == Approx(0.03));
  CHECK(corrected[3] == Approx(0.06));
  CHECK(corrected[0] == Approx(0.06));  // not below the one before
  CHECK(std::isnan(corrected[2]));
  CHECK(holm(std::vector<double>{0.9, 0.8}) == std::vector<double>{1, 1});
}

}  // namespace chunkstate
