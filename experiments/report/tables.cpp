// SPDX-License-Identifier: Apache-2.0
#include "experiments/report/tables.hpp"

#include <fmt/format.h>

#include <cmath>

#include "experiments/analysis/run_comparison.hpp"
#include "experiments/analysis/summary.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/record/metrics.hpp"
#include "experiments/report/chart.hpp"

namespace chunkstate {
namespace {

using Format = std::string (*)(double);

struct Column {
  const char* metric;
  const char* header;
  Format format;
};

constexpr Column summary_columns[] = {
    {"ttft", "first token", format_seconds},
    {"tpot", "per token", format_seconds},
    {"e2e", "latency", format_seconds},
    {"throughput", "tokens/s", format_number},
    {"peak_memory_bytes", "peak memory", format_bytes},
};

std::string with_interval(const Statistics& s, Format format) {
  if (s.n == 0) return "-";
  if (std::isnan(s.ci_low)) return format(s.median);
  return fmt::format("{} [{}, {}]", format(s.median), format(s.ci_low), format(s.ci_high));
}

// Cells joined as `open` cell `between` cell `close`.
std::string joined(const std::vector<std::string>& cells, const std::string& open,
                   const std::string& between, const std::string& close,
                   std::string (*escape)(const std::string&)) {
  std::string line = open;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    line += (i > 0 ? between : "") + escape(cells[i]);
  }
  return line + close;
}

std::string escape_csv(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string escape_markdown(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '|' || c == '\\') result += '\\';
    result += c == '\n' ? ' ' : c;
  }
  return result;
}

std::string escape_latex(const std::string& text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '\\':
        result += "\\textbackslash{}";
        break;
      case '~':
        result += "\\textasciitilde{}";
        break;
      case '^':
        result += "\\textasciicircum{}";
        break;
      case '&':
      case '%':
      case '$':
      case '#':
      case '_':
      case '{':
      case '}':
        result += '\\';
        [[fallthrough]];
      default:
        result += c;
    }
  }
  return result;
}

}  // namespace

ReportTable summary_table_of(const StoredResults& results) {
  ReportTable table{"summary", "Medians per point, with 95 % intervals", "/summary/value", {}, {}};
  table.header = results.spec.axis_paths;
  if (table.header.empty()) table.header.emplace_back("point");
  table.header.insert(table.header.end(), {"requests", "failed"});
  for (const Column& column : summary_columns) table.header.emplace_back(column.header);
  for (const SweepPoint& point : results.spec.points) {
    std::int64_t failed = 0;
    std::vector<const RequestRecord*> done;
    std::vector<std::int64_t> repeats;
    for (const RequestRecord& request : results.requests) {
      if (request.point != point.index) continue;
      if (request.status == RequestStatus::failed) {
        ++failed;
      } else {
        done.push_back(&request);
        repeats.push_back(request.repeat);
      }
    }
    std::vector<std::string> cells;
    for (const AxisValue& axis : point.axes) cells.push_back(axis.value);
    if (cells.empty()) cells.emplace_back("all");
    cells.push_back(std::to_string(done.size()));
    cells.push_back(std::to_string(failed));
    std::vector<std::vector<double>> values;
    for (const Column& column : summary_columns) {
      values.emplace_back();
      for (const RequestRecord* request : done) {
        values.back().push_back(metric_named(column.metric).value(*request));
      }
    }
    // With the seed of /summary, so that the page's intervals are the file's.
    const auto statistics = summarize(values, repeats, static_cast<std::uint64_t>(point.index));
    for (std::size_t i = 0; i < statistics.size(); ++i) {
      cells.push_back(with_interval(statistics[i], summary_columns[i].format));
    }
    table.rows.push_back(std::move(cells));
  }
  return table;
}

ReportTable rank_table_of(const StoredResults& results) {
  ReportTable table{"ranks",
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

std::string to_csv(const ReportTable& table) {
  std::string text = joined(table.header, "", ",", "\r\n", escape_csv);
  for (const auto& row : table.rows) text += joined(row, "", ",", "\r\n", escape_csv);
  return text;
}

std::string to_markdown(const ReportTable& table) {
  std::string text = joined(table.header, "| ", " | ", " |\n|", escape_markdown);
  for (std::size_t i = 0; i < table.header.size(); ++i) text += " --- |";
  text += '\n';
  for (const auto& row : table.rows) text += joined(row, "| ", " | ", " |\n", escape_markdown);
  return text;
}

std::string to_latex(const ReportTable& table) {
  std::string text =
      fmt::format("% {}, from {}\n\\begin{{tabular}}{{l{}}}\n\\toprule\n", table.title,
                  table.source, std::string(table.header.size() - 1, 'r'));
  text += joined(table.header, "", " & ", " \\\\\n\\midrule\n", escape_latex);
  for (const auto& row : table.rows) text += joined(row, "", " & ", " \\\\\n", escape_latex);
  return text + "\\bottomrule\n\\end{tabular}\n";
}

std::string to_html(const ReportTable& table) {
  std::string text = fmt::format(
      "<div class=\"scroll\"><table id=\"table-{}\"><caption>{} "
      "<code>{}</code></caption>\n<thead>",
      table.name, escape_markup(table.title), escape_markup(table.source));
  text +=
      joined(table.header, "<tr><th>", "</th><th>", "</th></tr></thead>\n<tbody>\n", escape_markup);
  for (const auto& row : table.rows) {
    text += joined(row, "<tr><td>", "</td><td>", "</td></tr>\n", escape_markup);
  }
  return text + "</tbody></table></div>\n";
}

}  // namespace chunkstate
