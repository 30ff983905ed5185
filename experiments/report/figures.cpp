// SPDX-License-Identifier: Apache-2.0
#include "experiments/report/figures.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "experiments/analysis/run_comparison.hpp"
#include "experiments/analysis/summary.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/record/metrics.hpp"
#include "experiments/report/chart.hpp"

namespace chunkstate {
namespace {

constexpr const char* by_length = "By length";
constexpr const char* work = "Who worked when";

/// A metric over which the variants are compared.
struct Plotted {
  const char* metric;
  const char* title;
  std::string (*format)(double);
};

constexpr Plotted plotted[] = {
    {"ttft", "Time to first token", format_seconds},
    {"tpot", "Time per output token", format_seconds},
    {"e2e", "Latency of a request", format_seconds},
    {"throughput", "Tokens per second", format_number},
    {"peak_memory_bytes", "Peak memory", format_bytes},
    {"bandwidth", "Least bytes moved per second", format_bytes},
};

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
  const bool wide =
      !tokens.empty() && *tokens.rbegin() >= 16 * std::max<std::int64_t>(*tokens.begin(), 1);
  if (!lengths.chunks && wide) lengths.axis.scale = Scale::log2;
  return lengths;
}

LineChart chart_by_length(const StoredResults& results, const Lengths& lengths,
                          const Plotted& what) {
  LineChart chart;
  chart.name = fmt::format("{}-by-{}", what.metric, lengths.chunks ? "chunks" : "tokens");
  std::replace(chart.name.begin(), chart.name.end(), '_', '-');
  chart.title = what.title;
  chart.source = fmt::format("medians and 95 % intervals of /requests/{}", what.metric);
  chart.x = lengths.axis;
  chart.y.label = what.metric;
  chart.y.format = what.format;
  for (const SweepPoint& point : results.spec.points) {
    std::map<double, std::pair<std::vector<double>, std::vector<std::int64_t>>> groups;
    for (const RequestRecord& request : results.requests) {
      if (request.point != point.index || request.status != RequestStatus::done) continue;
      auto& [values, repeats] = groups[lengths.of(results, request)];
      values.push_back(metric_named(what.metric).value(request));
      repeats.push_back(request.repeat);
    }
    ChartSeries series;
    series.name = point_name(point);
    for (const auto& [x, group] : groups) {
      const Statistics s = summarize({&group.first, 1}, group.second, 0).front();
      if (s.n > 0) series.points.push_back({x, s.median, s.ci_low, s.ci_high, ""});
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

SpanChart timeline(const StoredResults& results) {
  SpanChart chart;
  chart.name = "timeline";
  chart.title = "Requests on each rank";
  chart.source = "/requests/t_start, e2e, process";
  chart.x.label = "seconds since the start of the rank's run";
  for (const SweepPoint& point : results.spec.points) chart.series.push_back(point_name(point));
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
  for (const RequestRecord& request : results.requests) {
    if (request.status != RequestStatus::done) continue;
    const std::string& prompt =
        results.prompts.prompts[static_cast<std::size_t>(request.prompt)].id;
    chart.spans.push_back(
        {row_of[request.process], request.t_start, request.t_start + request.e2e,
         static_cast<std::size_t>(request.point),
         fmt::format("{}, {}, repeat {}: {}", chart.series[static_cast<std::size_t>(request.point)],
                     prompt, request.repeat, format_seconds(request.e2e))});
  }
  return chart;
}

}  // namespace

std::vector<Figure> report_figures(const StoredResults& results) {
  std::vector<Figure> figures;
  const Lengths lengths = lengths_of(results);
  for (const Plotted& what : plotted) {
    const LineChart chart = chart_by_length(results, lengths, what);
    const bool any = std::any_of(chart.series.begin(), chart.series.end(),
                                 [](const ChartSeries& s) { return !s.points.empty(); });
    if (any) figures.push_back({chart.name, by_length, to_svg(chart)});
  }
  const SpanChart spans = timeline(results);
  if (!spans.spans.empty()) figures.push_back({spans.name, work, to_svg(spans)});
  return figures;
}

}  // namespace chunkstate
