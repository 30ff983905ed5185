// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "experiments/analysis/run_comparison.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/report/chart.hpp"
#include "experiments/report/figures.hpp"
#include "experiments/report/point_data.hpp"
#include "experiments/report/sections.hpp"

namespace chunkstate {
namespace {

/// A loss against the reference: smaller is better.
struct Loss {
  const char* name;
  const char* title;
  const char* label;
  const char* source;
  EvaluationValue value;
};

std::vector<Loss> losses() {
  return {
      {"accuracy-speed-nll", "NLL lost against time", "NLL minus the reference's, nats per token",
       "means of /accuracy/nll_mean - reference_nll_mean, medians of /requests/e2e",
       [](const Evaluation& e) { return e.nll_mean - e.reference_nll_mean; }},
      {"accuracy-speed-kl", "KL from the reference against time", "KL, nats per token",
       "means of /accuracy/kl_mean, medians of /requests/e2e",
       [](const Evaluation& e) { return e.kl_mean; }}};
}

// The points that no other beats in both: quicker ones lose more.
ChartSeries frontier_of(std::vector<ChartPoint> points) {
  std::sort(points.begin(), points.end(), [](const ChartPoint& a, const ChartPoint& b) {
    return a.x != b.x ? a.x < b.x : a.y < b.y;
  });
  ChartSeries frontier;
  frontier.name = "none is quicker and closer";
  frontier.marked = false;
  frontier.dashed = true;
  double best = std::numeric_limits<double>::infinity();
  for (const ChartPoint& point : points) {
    if (!(point.y < best)) continue;
    best = point.y;
    frontier.points.push_back({point.x, point.y});
  }
  return frontier;
}

LineChart frontier_chart(const StoredResults& results, const Loss& loss) {
  LineChart chart;
  chart.name = loss.name;
  chart.title = loss.title;
  chart.source = loss.source;
  chart.x.label = "median time of a request";
  chart.x.from_zero = false;
  chart.x.format = format_seconds;
  chart.y.label = loss.label;
  std::vector<ChartPoint> points;
  for (const SweepPoint& point : results.spec.points) {
    const Statistics time = point_statistics(results, point, {"e2e"}).front();
    const MeanInterval m = evaluation_mean(results, point, loss.value);
    if (time.n == 0 || m.n == 0) continue;
    ChartSeries series;
    series.name = short_name(point);
    series.labelled = true;
    series.points.push_back({time.median, m.mean, m.low, m.high});
    points.push_back(series.points.back());
    chart.series.push_back(std::move(series));
  }
  chart.series.push_back(frontier_of(points));
  return chart;
}

// How far the states are from the reference's, layer by layer.
LineChart drift_chart(const StoredResults& results) {
  LineChart chart;
  chart.name = "state-drift";
  chart.title = "Drift of the states after the last token";
  chart.source = "means over prompts of /accuracy/state_drift";
  chart.x.label = "mamba layer";
  chart.x.steps = Steps::whole;
  chart.y.label = "|S - S ref| / |S ref|";
  for (const SweepPoint& point : results.spec.points) {
    std::size_t layers = 0;
    for (const RequestRecord& request : requests_of(results, point.index)) {
      if (request.evaluation == nullptr) continue;
      layers = std::max(layers, request.evaluation->state_drift.size());
    }
    ChartSeries series;
    series.name = short_name(point);
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const MeanInterval m = evaluation_mean(results, point, [layer](const Evaluation& e) {
        return layer < e.state_drift.size() ? e.state_drift[layer] : std::nan("");
      });
      if (m.n > 0) series.points.push_back({static_cast<double>(layer), m.mean, m.low, m.high});
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

BoxChart aspect_chart(const StoredResults& results, std::size_t aspect,
                      const EvaluationValue& value) {
  BoxChart chart;
  chart.name = fmt::format("gptscore-{}", judged_aspects[aspect]);
  chart.title = fmt::format("GPTScore: {}", judged_aspects[aspect]);
  chart.source = fmt::format("/accuracy/gptscore_{}", judged_aspects[aspect]);
  chart.x.label = "nats per token, 0 is best; a dot is a prompt";
  chart.x.from_zero = false;
  for (const SweepPoint& point : results.spec.points) {
    chart.groups.push_back({short_name(point), by_prompt(results, point, value)});
  }
  return chart;
}

}  // namespace

std::vector<Figure> accuracy_figures(const StoredResults& results) {
  std::vector<Figure> figures;
  for (const Loss& loss : losses()) {
    if (!any_evaluation(results, loss.value)) continue;
    const LineChart chart = frontier_chart(results, loss);
    figures.push_back({chart.name, sections::accuracy, to_svg(chart)});
  }
  if (any_evaluation(results, [](const Evaluation& e) {
        return e.state_drift.empty() ? std::nan("") : e.state_drift.front();
      })) {
    figures.push_back({"state-drift", sections::accuracy, to_svg(drift_chart(results))});
  }
  for (std::size_t aspect = 0; aspect < judged_aspects.size(); ++aspect) {
    const EvaluationValue value = [aspect](const Evaluation& e) {
      return e.gptscore[aspect].average;
    };
    if (!any_evaluation(results, value)) continue;
    const BoxChart chart = aspect_chart(results, aspect, value);
    figures.push_back({chart.name, sections::accuracy, to_svg(chart)});
  }
  return figures;
}

}  // namespace chunkstate
