// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "experiments/analysis/comparison.hpp"
#include "experiments/analysis/run_comparison.hpp"
#include "experiments/record/metrics.hpp"
#include "experiments/report/point_data.hpp"
#include "experiments/report/sections.hpp"
#include "experiments/report/tables.hpp"

namespace chunkstate {
namespace {

struct ChangeColumn {
  const char* metric;
  const char* title;
};

constexpr ChangeColumn change_columns[] = {{"ttft", "first token"},
                                           {"tpot", "per token"},
                                           {"e2e", "latency"},
                                           {"peak_memory_bytes", "peak memory"},
                                           {"energy", "energy"}};

// A resample draws every request of two points: 0.3 s for a cell of 20,000.
constexpr std::size_t most_requests = 20000;

std::string format_change(double relative) { return fmt::format("{:+.1f} %", 100 * relative); }

/// A row per point that is not `base`: its changes against it.
void add_changes(const StoredResults& results, const SweepPoint& base, ReportTable& table) {
  for (const ChangeColumn& column : change_columns) {
    const Metric& metric = metric_named(column.metric);
    const std::vector<Sample> before = samples_of(results, base.index, metric);
    if (before.empty()) continue;
    table.header.emplace_back(column.title, column.metric);
    std::size_t row = 0;
    for (const SweepPoint& point : results.spec.points) {
      if (point.index == base.index) continue;
      const Change c = compare_samples(before, samples_of(results, point.index, metric),
                                       Statistic::median, static_cast<std::uint64_t>(point.index));
      table.rows[row++].emplace_back(with_interval(c.relative, c.ci_low, c.ci_high, format_change),
                                     c.relative, c.ci_low, c.ci_high);
    }
  }
}

}  // namespace

ReportTable change_table_of(const StoredResults& results) {
  ReportTable table{"changes", sections::results, "", "/requests", {}, {}};
  const std::vector<SweepPoint>& points = results.spec.points;
  const auto base = std::ranges::find_if(points, [&](const SweepPoint& point) {
    return std::ranges::any_of(requests_of(results, point.index), [](const RequestRecord& request) {
      return request.status == RequestStatus::done;
    });
  });
  if (base == points.end() || points.size() < 2 || results.requests.size() > most_requests) {
    return table;
  }
  table.title = "Changes of these medians against " + point_name(*base) +
                ", over the prompts of both, with 95 % intervals";
  for (const std::string& path : results.spec.axis_paths) table.header.emplace_back(path);
  for (const SweepPoint& point : points) {
    if (point.index == base->index) continue;
    std::vector<TableCell>& cells = table.rows.emplace_back();
    for (const AxisValue& axis : point.axes) cells.emplace_back(plain_value(axis));
  }
  add_changes(results, *base, table);
  return table;
}

}  // namespace chunkstate
