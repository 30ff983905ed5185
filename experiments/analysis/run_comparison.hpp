// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "experiments/analysis/comparison.hpp"
#include "experiments/record/metrics.hpp"
#include "experiments/record/results_file.hpp"

namespace chunkstate {

/// A metric of one sweep point in two runs.
struct PointChange {
  std::string point;   // "ssm.variant=default, ssm.chunk_size=64"; "all" without axes
  std::string metric;  // a name of request_metrics()
  Statistic statistic = Statistic::median;
  Change change;
  std::string verdict;  // FASTER SLOWER SAME AMBIGUOUS; LESS MORE for what is no speed
};

/// What differs between two runs, and how much.
struct RunComparison {
  /// Differences of experiment and environment, one line each: "output.dir: ...", "cpu_model: ...".
  std::vector<std::string> differences;
  std::vector<std::string> unmatched;  // points that only one run has, with its name
  std::int64_t same_outputs = 0;       // requests with the same tokens in both
  std::int64_t other_outputs = 0;
  std::vector<PointChange> changes;  // by point, then metric
};

struct CompareOptions {
  std::vector<std::string> metrics = {"ttft", "tpot", "e2e", "peak_memory_bytes"};
  double margin = 0.01;  // relative: changes within it are none
  std::vector<FailCondition> fail_if;
};

/// The requests of one point, in a run's order.
std::span<const RequestRecord> requests_of(const StoredResults& run, std::int64_t point);

/// The metric's value of each finished request of a point, with its prompt's id; requests without
/// such a value are left out.
std::vector<Sample> samples_of(const StoredResults& run, std::int64_t point, const Metric& metric);

/// Compares run `b` with the base `a`, point by point. Points are matched by their axes, prompts by
/// their ids, failed requests are left out. Throws UsageError for an unknown metric.
RunComparison compare_runs(const StoredResults& a, const StoredResults& b,
                           const CompareOptions& options);

/// One line per condition and point where it holds: "tpot_p50 > +3%: ssm.variant=default: +5.1 %".
/// Also where a point of `a` cannot be judged, because its requests failed in `b` or are too few
/// for the percentile, and if `a` has nothing to judge: what was not looked at must not pass.
std::vector<std::string> failures(const StoredResults& a, const StoredResults& b,
                                  const CompareOptions& options);

/// An axis' value as people write it: results files have texts in quotes, as JSON.
std::string plain_value(const AxisValue& axis);

/// "ssm.variant=default, ssm.chunk_size=64", or "all".
std::string point_name(const SweepPoint& point);

}  // namespace chunkstate
