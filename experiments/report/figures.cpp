// SPDX-License-Identifier: Apache-2.0
#include "experiments/report/figures.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "experiments/analysis/disturbance.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/record/metrics.hpp"
#include "experiments/report/chart.hpp"
#include "experiments/report/point_data.hpp"
#include "experiments/report/sections.hpp"

namespace chunkstate {
namespace {

/// A metric over which the variants are compared.
struct Plotted {
  const char* metric;
  const char* title;
  std::string (*format)(double);
  Steps steps = Steps::decimal;
};

constexpr Plotted plotted[] = {
    {"ttft", "Time to first token", format_seconds},
    {"tpot", "Time per output token", format_seconds},
    {"e2e", "Latency of a request", format_seconds},
    {"throughput", "Tokens per second", format_number},
    {"peak_memory_bytes", "Peak memory", format_bytes, Steps::binary},
    {"bandwidth", "Least bytes moved per second", format_rate, Steps::binary},
};

// From so wide a range on, a linear axis shows its largest values alone.
constexpr double wide_range = 30;

/// A request that is done, and whether it was disturbed.
struct Done {
  const RequestRecord* request;
  bool disturbed;
};

std::vector<std::vector<Done>> done_by_point(const StoredResults& results) {
  const std::vector<bool> disturbed = disturbed_requests(results);
  std::vector<std::vector<Done>> points(results.spec.points.size());
  for (std::size_t i = 0; i < results.requests.size(); ++i) {
    const RequestRecord& request = results.requests[i];
    if (request.status != RequestStatus::done) continue;
    points[static_cast<std::size_t>(request.point)].push_back({&request, disturbed[i]});
  }
  return points;
}

// At most `most` of them, with the disturbed and the extreme ones.
std::vector<ChartPoint> thinned(const std::vector<ChartPoint>& all, std::size_t most) {
  if (all.size() <= most) return all;
  const auto less = [](const ChartPoint& a, const ChartPoint& b) { return a.y < b.y; };
  const auto [low, high] = std::minmax_element(all.begin(), all.end(), less);
  const std::size_t step = (all.size() + most - 1) / std::max<std::size_t>(most, 1);
  std::vector<ChartPoint> kept;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i % step == 0 || all[i].disturbed || &all[i] == &*low || &all[i] == &*high) {
      kept.push_back(all[i]);
    }
  }
  return kept;
}

// What the requests of a point are spread over: the prompts' stated number of chunks if they have
// several, else their tokens.
struct Lengths {
  Axis axis;
  bool chunks = false;
  double of(const StoredResults& results, const RequestRecord& request) const {
    const Prompt& prompt = results.prompts.prompts[static_cast<std::size_t>(request.prompt)];
    return static_cast<double>(chunks ? prompt.num_chunks : request.tokens_in);
  }
};

Lengths lengths_of(const StoredResults& results) {
  std::set<std::int64_t> chunks;
  std::set<std::int64_t> tokens;
  for (const Prompt& prompt : results.prompts.prompts) chunks.insert(prompt.num_chunks);
  for (const RequestRecord& request : results.requests) tokens.insert(request.tokens_in);
  tokens.erase(-1);
  Lengths lengths;
  lengths.chunks = chunks.size() > 1 && chunks.count(-1) == 0;
  lengths.axis.label =
      lengths.chunks ? "chunks of the prompt, as its file states" : "tokens of the prompt";
  lengths.axis.from_zero = false;
  lengths.axis.steps = Steps::whole;
  const bool wide =
      !tokens.empty() && *tokens.rbegin() >= 16 * std::max<std::int64_t>(*tokens.begin(), 1);
  if (!lengths.chunks && wide) lengths.axis.scale = Scale::log2;
  return lengths;
}

ChartSeries series_by_length(const StoredResults& results, const SweepPoint& point,
                             const std::vector<Done>& requests, const Lengths& lengths,
                             const Metric& metric, std::size_t most) {
  std::map<double, std::pair<std::vector<double>, std::vector<std::int64_t>>> groups;
  ChartSeries series;
  series.name = short_name(point);
  for (const auto& [request, disturbed] : requests) {
    const double length = lengths.of(results, *request);
    const double value = metric.value(*request);
    auto& [values, repeats] = groups[length];
    values.push_back(value);
    repeats.push_back(request->repeat);
    if (std::isnan(value)) continue;
    const std::string& id = results.prompts.prompts[static_cast<std::size_t>(request->prompt)].id;
    ChartPoint dot{length, value};
    dot.note = fmt::format("{}, repeat {}", id, request->repeat);
    dot.disturbed = disturbed;
    series.cloud.push_back(std::move(dot));
  }
  series.cloud = thinned(series.cloud, most);
  for (const auto& [x, group] : groups) {
    const Statistics s = summarize({&group.first, 1}, group.second, 0).front();
    if (s.n > 0) series.points.push_back({x, s.median, s.ci_low, s.ci_high});
  }
  return series;
}

bool spans_wide_range(const LineChart& chart) {
  double low = std::numeric_limits<double>::infinity();
  double high = 0;
  for (const ChartSeries& series : chart.series) {
    for (const ChartPoint& point : series.cloud) {
      low = std::min(low, point.y);
      high = std::max(high, point.y);
    }
  }
  return low > 0 && high > wide_range * low;
}

std::size_t cloud_share(const StoredResults& results) {
  if (results.requests.size() <= most_in_cloud) return most_in_cloud;
  return std::max<std::size_t>(most_in_cloud / results.spec.points.size(), 1);
}

const char* cloud_words(const StoredResults& results) {
  return results.requests.size() > most_in_cloud ? "some requests" : "all requests";
}

}  // namespace

std::vector<Figure> length_figures(const StoredResults& results) {
  std::vector<Figure> figures;
  const Lengths lengths = lengths_of(results);
  const auto requests = done_by_point(results);
  for (const Plotted& what : plotted) {
    LineChart chart;
    chart.name = fmt::format("{}-by-{}", what.metric, lengths.chunks ? "chunks" : "tokens");
    std::replace(chart.name.begin(), chart.name.end(), '_', '-');
    chart.title = what.title;
    chart.source =
        fmt::format("/requests/{}: medians, 95 % intervals, {}", what.metric, cloud_words(results));
    chart.x = lengths.axis;
    chart.y.label = what.metric;
    chart.y.format = what.format;
    chart.y.steps = what.steps;
    bool any = false;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      chart.series.push_back(series_by_length(results, results.spec.points[i], requests[i], lengths,
                                              metric_named(what.metric), cloud_share(results)));
      any = any || !chart.series.back().points.empty();
    }
    if (spans_wide_range(chart)) chart.y.scale = Scale::log10;
    if (any) figures.push_back({chart.name, sections::by_length, to_svg(chart)});
  }
  return figures;
}

namespace {

/// Below the ridge memory is the roof, above it arithmetic. From `low` to `high` operations per
/// byte.
ChartSeries roof(const Ceilings& ceilings, double low, double high) {
  ChartSeries series;
  series.name = fmt::format("ceilings of {}", ceilings.file);
  series.dashed = true;
  series.marked = false;
  const double ridge = ceilings.flops / ceilings.bytes;
  for (const double x : {std::min(low, ridge), ridge, std::max(high, ridge)}) {
    series.points.push_back({x, std::min(ceilings.flops, ceilings.bytes * x)});
  }
  return series;
}

}  // namespace

std::vector<Figure> limit_figures(const StoredResults& results, const Ceilings& ceilings) {
  const bool has_roof = ceilings.flops > 0 && ceilings.bytes > 0;
  LineChart chart;
  chart.name = "roofline";
  chart.title = "Operations per second over operations per byte";
  chart.source = fmt::format(
      "/requests/flops, bytes_moved, e2e: {}; {}", cloud_words(results),
      has_roof ? "ceilings of " + ceilings.file : std::string("ceilings: report --ceilings"));
  chart.x = {"operations per least byte moved, FLOP/byte", Scale::log10};
  chart.y = {"FLOP/s over the whole request", Scale::log10};
  const auto requests = done_by_point(results);
  bool any = false;
  double low = std::numeric_limits<double>::infinity(), high = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    ChartSeries series;
    series.name = short_name(results.spec.points[i]);
    std::vector<double> intensities;
    std::vector<double> rates;
    for (const auto& [request, disturbed] : requests[i]) {
      const double intensity = request->flops / request->bytes_moved;
      const double rate = request->flops / request->e2e;
      if (!(intensity > 0) || !(rate > 0)) continue;
      intensities.push_back(intensity);
      rates.push_back(rate);
      ChartPoint dot{intensity, rate};
      dot.disturbed = disturbed;
      series.cloud.push_back(std::move(dot));
    }
    if (!rates.empty()) {
      any = true;
      std::sort(intensities.begin(), intensities.end());
      std::sort(rates.begin(), rates.end());
      series.points.push_back({quantile(intensities, 0.5), quantile(rates, 0.5)});
      low = std::min(low, intensities.front());
      high = std::max(high, intensities.back());
    }
    series.cloud = thinned(series.cloud, cloud_share(results));
    chart.series.push_back(std::move(series));
  }
  if (!any) return {};
  if (has_roof) chart.series.push_back(roof(ceilings, low, high));
  return {{chart.name, sections::limits, to_svg(chart)}};
}

std::vector<Figure> work_figures(const StoredResults& results) {
  SpanChart chart;
  chart.name = "timeline";
  chart.title = "Requests on each rank";
  chart.source = fmt::format("/requests/t_start, e2e, process: {}", cloud_words(results));
  chart.x.label = "seconds since the start of the rank's run";
  for (const SweepPoint& point : results.spec.points) chart.series.push_back(short_name(point));
  std::map<std::int64_t, std::size_t> row_of;
  for (const RequestRecord& request : results.requests) row_of[request.process] = 0;
  for (auto& [process, row] : row_of) {
    row = chart.rows.size();
    const bool known =
        process >= 0 && process < static_cast<std::int64_t>(results.processes.size());
    chart.rows.push_back(
        known ? fmt::format("rank {}", results.processes[static_cast<std::size_t>(process)].rank)
              : "unknown");
  }
  const std::size_t step = results.requests.size() / (most_in_cloud + 1) + 1;
  for (std::size_t i = 0; i < results.requests.size(); i += step) {
    const RequestRecord& request = results.requests[i];
    if (request.status != RequestStatus::done) continue;
    const std::string& prompt =
        results.prompts.prompts[static_cast<std::size_t>(request.prompt)].id;
    const auto point = static_cast<std::size_t>(request.point);
    chart.spans.push_back({row_of[request.process], request.t_start, request.t_start + request.e2e,
                           point,
                           fmt::format("{}, {}, repeat {}: {}", chart.series[point], prompt,
                                       request.repeat, format_seconds(request.e2e))});
  }
  if (chart.spans.empty()) return {};
  return {{chart.name, sections::work, to_svg(chart)}};
}

std::vector<Figure> report_figures(const StoredResults& results, const Ceilings& ceilings) {
  std::vector<Figure> figures;
  const auto add = [&](std::vector<Figure> part) {
    for (Figure& figure : part) figures.push_back(std::move(figure));
  };
  add(accuracy_figures(results));
  add(length_figures(results));
  add(limit_figures(results, ceilings));
  add(work_figures(results));
  return figures;
}

}  // namespace chunkstate
