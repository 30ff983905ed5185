// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace chunkstate {

/// A mean over prompts. NaN where the sample is too small to say it.
struct MeanInterval {
  std::int64_t n = 0;  // values that are numbers
  double mean = std::numeric_limits<double>::quiet_NaN();
  double low = std::numeric_limits<double>::quiet_NaN();  // n >= 2; 95 % interval of the mean
  double high = std::numeric_limits<double>::quiet_NaN();
};

/// Mean of the values that are no NaN, one per prompt, with its percentile-bootstrap interval (1000
/// resamples of the prompts). The same arguments give the same bits.
MeanInterval mean_interval(std::span<const double> values, std::uint64_t seed);

/// What the differences of two points, prompt by prompt, say.
struct PairedTest {
  MeanInterval difference;
  std::int64_t equal = 0;  // differences of exactly 0: no evidence for either side
  /// Two-sided p of the Wilcoxon signed-rank test: were the signs of the differences coin tosses,
  /// so lopsided a rank sum would come up this often. Zero differences are dropped, equal sizes
  /// share their mean rank. Exact up to 200 differences, then the normal approximation. 1 if all
  /// are 0; NaN without differences.
  double p = std::numeric_limits<double>::quiet_NaN();
};

/// Differences that are NaN are left out.
PairedTest paired_test(std::span<const double> differences, std::uint64_t seed);

/// Holm's correction for as many tests as there are p that are no NaN: the chance of one false
/// alarm among all of them stays below the level at which the results are read. In their order.
std::vector<double> holm(std::span<const double> p);

}  // namespace chunkstate
