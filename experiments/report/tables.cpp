// SPDX-License-Identifier: Apache-2.0
#include "experiments/report/tables.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "experiments/analysis/disturbance.hpp"
#include "experiments/analysis/run_comparison.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/record/metrics.hpp"
#include "experiments/report/point_data.hpp"
#include "experiments/report/sections.hpp"

namespace chunkstate {
namespace {

using Format = std::string (*)(double);

std::string format_count(double value) { return fmt::format("{:.0f}", value); }

struct MetricColumn {
  const char* metric;
  const char* title;
  Format format;
};

constexpr MetricColumn summary_columns[] = {
    {"ttft", "first token", format_seconds},
    {"tpot", "per token", format_seconds},
    {"e2e", "latency", format_seconds},
    {"throughput", "tokens/s", format_number},
    {"bandwidth", "bandwidth", format_rate},
    {"peak_memory_bytes", "peak memory", format_bytes},
    {"cpu_percent", "CPU, % of a core", format_number},
    {"launches", "launches", format_count},
    {"energy", "energy, J", format_number},
};

constexpr MetricColumn execution_columns[] = {
    {"warmup_seconds", "warm-up", format_seconds}, {"ttft", "first token", format_seconds},
    {"tpot", "per token", format_seconds},         {"throughput", "tokens/s", format_number},
    {"energy", "energy, J", format_number},
};

void add_axes(const StoredResults& results, ReportTable& table) {
  for (const std::string& path : results.spec.axis_paths) table.header.emplace_back(path);
  if (results.spec.axis_paths.empty()) table.header.emplace_back("point");
}

std::vector<TableCell> axis_cells(const SweepPoint& point) {
  std::vector<TableCell> cells;
  for (const AxisValue& axis : point.axes) cells.emplace_back(plain_value(axis));
  if (cells.empty()) cells.emplace_back("all");
  return cells;
}

// Appends the medians to rows that are there, one per point; a metric that no request has is left
// out.
template <std::size_t count>
void add_medians(const StoredResults& results, const MetricColumn (&columns)[count],
                 ReportTable& table) {
  std::vector<std::string> metrics;
  for (const MetricColumn& column : columns) metrics.emplace_back(column.metric);
  std::vector<std::vector<Statistics>> of_points;
  for (const SweepPoint& point : results.spec.points) {
    of_points.push_back(point_statistics(results, point, metrics));
  }
  for (std::size_t c = 0; c < count; ++c) {
    const bool any = std::any_of(of_points.begin(), of_points.end(),
                                 [&](const auto& statistics) { return statistics[c].n > 0; });
    if (!any) continue;
    table.header.emplace_back(columns[c].title, columns[c].metric);
    for (std::size_t row = 0; row < of_points.size(); ++row) {
      const Statistics& s = of_points[row][c];
      table.rows[row].emplace_back(with_interval(s.median, s.ci_low, s.ci_high, columns[c].format),
                                   s.median, s.ci_low, s.ci_high);
    }
  }
}

// Where requests overlap their own rates do not add up to the rank's.
void add_rates(const StoredResults& results, ReportTable& table) {
  const bool overlap = std::ranges::any_of(results.requests, [](const RequestRecord& request) {
    return request.batch_mean > static_cast<double>(request.batch);
  });
  if (!overlap) return;
  table.header.emplace_back("tokens/s of a rank", "tokens_per_rank_second");
  for (std::size_t row = 0; row < table.rows.size(); ++row) {
    std::vector<const RequestRecord*> own;
    for (const RequestRecord& request : requests_of(results, results.spec.points[row].index)) {
      own.push_back(&request);
    }
    const double rate = tokens_per_rank_second(own);
    table.rows[row].emplace_back(format_number(rate), rate, NAN, NAN);
  }
}

ReportTable failure_table_of(const StoredResults& results) {
  ReportTable table{"failed",
                    sections::failures,
                    "Requests that failed or were skipped",
                    "/requests/error",
                    {"point", "prompt", "repeat", "status", "error"},
                    {}};
  for (const RequestRecord& request : results.requests) {
    if (request.status == RequestStatus::done) continue;
    table.rows.push_back({short_name(results.spec.points[static_cast<std::size_t>(request.point)]),
                          results.prompts.prompts[static_cast<std::size_t>(request.prompt)].id,
                          std::to_string(request.repeat), std::string(name_of(request.status)),
                          request.error});
  }
  return table;
}

ReportTable model_table_of(const StoredResults& results) {
  ReportTable table{"models",
                    sections::provenance,
                    "Models",
                    "/model",
                    {"name", "family", "type", "parameters", "weights, bytes", "state, bytes",
                     "KV, bytes per token", "digest"},
                    {}};
  for (const ModelFacts& model : results.models) {
    table.rows.push_back({model.name, model.architecture, model.dtype,
                          std::to_string(model.parameters), std::to_string(model.weight_bytes),
                          std::to_string(model.state_bytes),
                          std::to_string(model.kv_bytes_per_token), model.digest});
  }
  return table;
}

ReportTable rank_table_of(const StoredResults& results) {
  ReportTable table{"ranks",
                    sections::provenance,
                    "Ranks",
                    "/provenance/ranks",
                    {"rank", "host", "processor", "CPUs", "threads", "backend", "GPU", "started"},
                    {}};
  for (const RankProvenance& rank : results.processes) {
    table.rows.push_back({fmt::format("{} of {}", rank.rank, rank.ranks), rank.host, rank.cpu_model,
                          rank.cpus, std::to_string(rank.threads), rank.backend,
                          rank.gpu_name.empty() ? "-" : rank.gpu_name, rank.start_utc});
  }
  return table;
}

}  // namespace

ReportTable summary_table_of(const StoredResults& results) {
  ReportTable table{"summary",
                    sections::results,
                    "Medians over prompts and repeats, with 95 % intervals",
                    "/summary/value",
                    {},
                    {}};
  add_axes(results, table);
  table.header.insert(table.header.end(), {"requests", "failed", "disturbed"});
  const std::vector<bool> disturbed = disturbed_requests(results);
  for (const SweepPoint& point : results.spec.points) {
    std::int64_t done = 0;
    std::int64_t failed = 0;
    std::int64_t marked = 0;
    for (const RequestRecord& request : requests_of(results, point.index)) {
      if (request.status == RequestStatus::failed) ++failed;
      if (request.status == RequestStatus::done) ++done;
      if (disturbed[static_cast<std::size_t>(&request - results.requests.data())]) ++marked;
    }
    std::vector<TableCell> cells = axis_cells(point);
    for (const std::int64_t count : {done, failed, marked}) {
      cells.emplace_back(std::to_string(count), static_cast<double>(count), NAN, NAN);
    }
    table.rows.push_back(std::move(cells));
  }
  add_medians(results, summary_columns, table);
  add_rates(results, table);
  return table;
}

ReportTable execution_table_of(const StoredResults& results) {
  ReportTable table{"execution",
                    sections::execution,
                    "What each way to execute costs and gives: medians with 95 % intervals",
                    "/summary/value",
                    {},
                    {}};
  const auto& paths = results.spec.axis_paths;
  const bool any = std::any_of(paths.begin(), paths.end(), [](const std::string& path) {
    return path == "execution.mode" || path == "execution.autotune" || path == "execution.fusion";
  });
  if (!any) return table;
  add_axes(results, table);
  for (const SweepPoint& point : results.spec.points) table.rows.push_back(axis_cells(point));
  add_medians(results, execution_columns, table);
  return table;
}

std::vector<ReportTable> report_tables(const StoredResults& results) {
  std::vector<ReportTable> tables = {
      summary_table_of(results),  change_table_of(results),    accuracy_table_of(results),
      gptscore_table_of(results), execution_table_of(results), agreement_table_of(results),
      failure_table_of(results),  model_table_of(results),     rank_table_of(results)};
  std::erase_if(tables, [](const ReportTable& table) { return table.rows.empty(); });
  return tables;
}

}  // namespace chunkstate
