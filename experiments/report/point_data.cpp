// SPDX-License-Identifier: Apache-2.0
#include "experiments/report/point_data.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "experiments/analysis/run_comparison.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/record/metrics.hpp"

namespace chunkstate {
namespace {

// A name of something, unlike a number, a switch or "auto".
bool speaks_for_itself(const std::string& value) {
  if (value == "true" || value == "false" || value == "on" || value == "off" || value == "auto") {
    return false;
  }
  return !value.empty() && std::isalpha(static_cast<unsigned char>(value.front())) != 0;
}

}  // namespace

std::string short_name(const SweepPoint& point) {
  std::string name;
  for (const AxisValue& axis : point.axes) {
    if (!name.empty()) name += ", ";
    const std::string value = plain_value(axis);
    if (!speaks_for_itself(value)) name += axis.path.substr(axis.path.rfind('.') + 1) + " ";
    name += value;
  }
  return name.empty() ? "all" : name;
}

std::vector<Statistics> point_statistics(const StoredResults& results, const SweepPoint& point,
                                         const std::vector<std::string>& metrics) {
  std::vector<std::int64_t> repeats;
  std::vector<std::vector<double>> values(metrics.size());
  for (const RequestRecord& request : requests_of(results, point.index)) {
    if (request.status != RequestStatus::done) continue;
    repeats.push_back(request.repeat);
    for (std::size_t i = 0; i < metrics.size(); ++i) {
      values[i].push_back(metric_named(metrics[i]).value(request));
    }
  }
  return summarize(values, repeats, static_cast<std::uint64_t>(point.index));
}

std::vector<double> by_prompt(const StoredResults& results, const SweepPoint& point,
                              const EvaluationValue& value) {
  std::vector<double> values(results.prompts.prompts.size(), std::nan(""));
  for (const RequestRecord& request : requests_of(results, point.index)) {
    if (request.evaluation == nullptr) continue;
    values[static_cast<std::size_t>(request.prompt)] = value(*request.evaluation);
  }
  return values;
}

MeanInterval evaluation_mean(const StoredResults& results, const SweepPoint& point,
                             const EvaluationValue& value) {
  // One seed: the same prompts are drawn for all points, so their intervals differ by what they
  // are.
  return mean_interval(by_prompt(results, point, value), 1);
}

bool any_evaluation(const StoredResults& results, const EvaluationValue& value) {
  return std::any_of(results.requests.begin(), results.requests.end(), [&](const auto& request) {
    return request.evaluation != nullptr && !std::isnan(value(*request.evaluation));
  });
}

std::string with_interval(double value, double low, double high, std::string (*format)(double)) {
  if (std::isnan(value)) return "-";
  if (std::isnan(low)) return format(value);
  return fmt::format("{} [{}, {}]", format(value), format(low), format(high));
}

std::string format_rate(double value) {
  return std::isnan(value) ? "-" : format_bytes(value) + "/s";
}

}  // namespace chunkstate
