// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>

#include "experiments/analysis/evaluation_columns.hpp"
#include "experiments/analysis/run_comparison.hpp"
#include "experiments/analysis/summary.hpp"
#include "experiments/export/export.hpp"
#include "experiments/export/start_time.hpp"
#include "experiments/record/metrics.hpp"
#include "experiments/report/point_data.hpp"

namespace chunkstate {
namespace {

using Json = nlohmann::ordered_json;

// When a request ended, milliseconds since 1970 on the clock of the process that ran it.
std::int64_t end_of(const StoredResults& results, const RequestRecord& request) {
  const double start = start_seconds(results, request.process);
  const double seconds = request.t_start + request.e2e;
  return (std::isfinite(start) ? static_cast<std::int64_t>(start) * 1000 : 0) +
         (std::isfinite(seconds) ? static_cast<std::int64_t>(seconds * 1000) : 0);
}

void add_number(Json& metrics, const std::string& name, double value) {
  if (std::isfinite(value)) metrics[name] = value;  // JSON has no NaN
}

Json metrics_of(const RequestRecord& request, const std::vector<EvaluationColumn>& evaluated) {
  Json metrics = Json::object();
  for (const Metric& metric : request_metrics()) {
    add_number(metrics, metric.name, metric.value(request));
  }
  if (request.evaluation == nullptr) return metrics;
  for (const EvaluationColumn& column : evaluated) {
    add_number(metrics, column.name, column.value(*request.evaluation));
  }
  return metrics;
}

Json medians_of(const StoredResults& results, const SweepPoint& point) {
  std::vector<std::string> names;
  for (const Metric& metric : request_metrics()) names.emplace_back(metric.name);
  const std::vector<Statistics> statistics = point_statistics(results, point, names);
  Json medians = Json::object();
  for (std::size_t i = 0; i < names.size(); ++i) {
    add_number(medians, names[i] + "_median", statistics[i].median);
    add_number(medians, names[i] + "_ci_low", statistics[i].ci_low);
    add_number(medians, names[i] + "_ci_high", statistics[i].ci_high);
  }
  for (const EvaluationColumn& column : evaluation_columns()) {
    add_number(medians, column.name + "_mean", evaluation_mean(results, point, column.value).mean);
  }
  return medians;
}

}  // namespace

std::string export_json_lines(const StoredResults& results) {
  const std::vector<EvaluationColumn> evaluated = evaluation_columns();
  std::string text;
  const auto add = [&](const Json& line) {
    text += line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  };
  for (const SweepPoint& point : results.spec.points) {
    const std::string run = results.spec.name + "/" + point_name(point);
    const ModelFacts& model = results.models[static_cast<std::size_t>(
        results.model_of_point[static_cast<std::size_t>(point.index)])];
    Json params = Json::object();
    for (const AxisValue& axis : point.axes) params[axis.path] = plain_value(axis);
    add({{"kind", "run"},
         {"experiment", results.spec.name},
         {"run", run},
         {"params", params},
         {"tags",
          {{"config_hash", results.spec.config_hash},
           {"model", model.name},
           {"model_digest", model.digest},
           {"dtype", model.dtype}}}});
    std::int64_t step = 0;
    std::int64_t last = 0;
    for (const RequestRecord& request : requests_of(results, point.index)) {
      if (request.status != RequestStatus::done) continue;
      const std::int64_t end = end_of(results, request);
      last = std::max(last, end);
      add({{"kind", "metrics"},
           {"run", run},
           {"step", step++},
           {"timestamp", end},
           {"metrics", metrics_of(request, evaluated)}});
    }
    add({{"kind", "summary"},
         {"run", run},
         {"step", step},
         {"timestamp", last},
         {"metrics", medians_of(results, point)}});
  }
  return text;
}

}  // namespace chunkstate
