// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

namespace chunkstate {

/// What is said of a sample. NaN where the sample is too small to say it.
struct Statistics {
  std::int64_t n = 0;  // values that are numbers
  double mean = std::numeric_limits<double>::quiet_NaN();
  double median = std::numeric_limits<double>::quiet_NaN();
  double p90 = std::numeric_limits<double>::quiet_NaN();     // n >= 30
  double p99 = std::numeric_limits<double>::quiet_NaN();     // n >= 300
  double std = std::numeric_limits<double>::quiet_NaN();     // n >= 2; divided by n - 1
  double ci_low = std::numeric_limits<double>::quiet_NaN();  // n >= 2; 95 % interval of the median
  double ci_high = std::numeric_limits<double>::quiet_NaN();

  static constexpr std::array<const char*, 8> names{"n",   "mean", "median", "p90",
                                                    "p99", "std",  "ci_low", "ci_high"};
  std::array<double, 8> values() const {
    return {static_cast<double>(n), mean, median, p90, p99, std, ci_low, ci_high};
  }
};

/// Fewest values from which a percentile is stated: 3 above the 90th, 3 above the 99th.
inline constexpr std::int64_t fewest_for_p90 = 30;
inline constexpr std::int64_t fewest_for_p99 = 300;

/// Linear interpolation between order statistics (numpy's default). `sorted` ascending, not empty;
/// 0 <= q <= 1.
double quantile(std::span<const double> sorted, double q);

/// Statistics of each column's values that are no NaN. The interval is a percentile bootstrap in
/// two stages: repeats are drawn with replacement, then rows within each drawn repeat, because
/// values of one repeat share its conditions; the same rows for all columns. `repeats[i]` is the
/// repeat of row i. The same arguments give the same bits. Throws std::invalid_argument if the
/// lengths differ.
std::vector<Statistics> summarize(std::span<const std::vector<double>> columns,
                                  std::span<const std::int64_t> repeats, std::uint64_t seed);

}  // namespace chunkstate
