// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "experiments/analysis/paired_test.hpp"
#include "experiments/analysis/summary.hpp"
#include "experiments/record/evaluation.hpp"
#include "experiments/record/results_file.hpp"

namespace chunkstate {

/// "default_optimized, chunk_size 64": a point's values, with the last word of their key where the
/// value does not speak for itself. "all" without axes.
std::string short_name(const SweepPoint& point);

/// Statistics of metrics over the requests done of one point, with the seed of /summary, so that
/// they are the file's. In the order of `metrics`.
std::vector<Statistics> point_statistics(const StoredResults& results, const SweepPoint& point,
                                         const std::vector<std::string>& metrics);

/// A number of an evaluation; NaN: missing.
using EvaluationValue = std::function<double(const Evaluation&)>;

/// The value for each prompt at a point, NaN where it was not evaluated.
std::vector<double> by_prompt(const StoredResults& results, const SweepPoint& point,
                              const EvaluationValue& value);

/// Its mean over prompts with the interval.
MeanInterval evaluation_mean(const StoredResults& results, const SweepPoint& point,
                             const EvaluationValue& value);

/// Whether any request has a number there.
bool any_evaluation(const StoredResults& results, const EvaluationValue& value);

/// "[low, high]" after the number, if there is an interval.
std::string with_interval(double value, double low, double high, std::string (*format)(double));

/// Bytes per second in powers of 1024: "524 MiB/s".
std::string format_rate(double value);

}  // namespace chunkstate
