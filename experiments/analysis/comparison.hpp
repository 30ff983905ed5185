// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>

namespace chunkstate {

/// One measured value of a metric at one sweep point. Not NaN.
struct Sample {
  std::string prompt;  // its id: pairs the prompts of two runs
  double value = 0;
};

/// What of a sample is compared.
enum class Statistic : std::uint8_t { median, mean, p90, p99 };

/// How much a statistic changed from run A to run B. NaN where it cannot be said.
struct Change {
  double a = std::numeric_limits<double>::quiet_NaN();         // the statistic in A
  double b = std::numeric_limits<double>::quiet_NaN();         // and in B
  double relative = std::numeric_limits<double>::quiet_NaN();  // b / a - 1
  double ci_low = std::numeric_limits<double>::quiet_NaN();    // 95 % interval of `relative`
  double ci_high = std::numeric_limits<double>::quiet_NaN();
  std::int64_t prompts = 0;   // that both runs have
  std::int64_t unpaired = 0;  // that only one has: left out
  std::int64_t n_a = 0;       // values used
  std::int64_t n_b = 0;
};

/// Compares two samples. The interval is a percentile bootstrap in two stages: prompts are drawn
/// with replacement, the same for both runs, because prompts differ in length; then values within
/// each drawn prompt, separately, because repeats of two runs have nothing to do with each other. A
/// percentile needs as many values as in summarize(). Two equal samples are the same measurement:
/// no change, without an interval. The same arguments give the same bits.
Change compare_samples(std::span<const Sample> a, std::span<const Sample> b, Statistic statistic,
                       std::uint64_t seed);

enum class Verdict : std::uint8_t { same, lower, higher, ambiguous };

/// `higher` (`lower`): the interval is above (below) zero and the change beyond the margin. `same`:
/// the whole interval is within the margin. Otherwise, and without an interval, `ambiguous`.
/// `margin` > 0, relative: 0.01 is 1 %.
Verdict verdict_of(const Change& change, double margin);

/// "tpot_p50 > +3%": a change that is not accepted.
struct FailCondition {
  std::string text;
  std::string metric;  // "tpot"
  Statistic statistic = Statistic::median;
  bool above = true;  // '>' or '<'
  double bound = 0;   // relative: 0.03

  /// The change is beyond the bound, and its interval excludes zero on that side.
  bool holds(const Change& change) const;
};

/// METRIC[_p50|_p90|_p99|_mean] > or < NUMBER%; without a statistic the median. Throws UsageError.
/// Whether there is such a metric is the caller's to check.
FailCondition parse_fail_condition(const std::string& text);

}  // namespace chunkstate
