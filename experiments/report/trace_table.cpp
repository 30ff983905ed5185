// SPDX-License-Identifier: Apache-2.0
#include "experiments/report/trace_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

#include "experiments/analysis/table.hpp"
#include "experiments/record/trace_reader.hpp"
#include "experiments/report/chart.hpp"
#include "experiments/report/sections.hpp"

namespace chunkstate {
namespace {

constexpr std::size_t most_rows = 12;  // per variant and place

struct Tally {
  std::int64_t calls = 0;
  double total = 0;
  void add(const StoredSpan& span) {
    ++calls;
    total += span.end - span.begin;
  }
};

using Tallies = std::map<std::tuple<std::string, std::string, std::string>, Tally>;

// Each span belongs to the request of its rank during which it began.
void tally_rank(const std::vector<StoredSpan>& spans, Tallies& tallies) {
  std::vector<const StoredSpan*> requests;
  for (const StoredSpan& span : spans) {
    if (*span.name == "request") requests.push_back(&span);
  }
  const auto earlier = [](const StoredSpan* a, const StoredSpan* b) { return a->begin < b->begin; };
  std::sort(requests.begin(), requests.end(), earlier);
  for (const StoredSpan& span : spans) {
    const auto next = std::upper_bound(requests.begin(), requests.end(), &span, earlier);
    if (next == requests.begin()) continue;
    const StoredSpan& request = **std::prev(next);
    if (span.begin >= request.end) continue;
    tallies[{*request.variant, *span.place, *span.name}].add(span);
  }
}

void add_rows(const Tallies& tallies, const std::string& variant, const std::string& place,
              double requests_total, ReportTable& table) {
  std::vector<std::pair<std::string, Tally>> found;
  for (const auto& [key, tally] : tallies) {
    const auto& [of_variant, of_place, name] = key;
    if (of_variant == variant && of_place == place) found.emplace_back(name, tally);
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.second.total > b.second.total; });
  if (found.size() > most_rows) found.resize(most_rows);
  for (const auto& [name, tally] : found) {
    table.rows.push_back({variant, place, name, std::to_string(tally.calls),
                          format_seconds(1e-6 * tally.total),
                          format_seconds(1e-6 * tally.total / static_cast<double>(tally.calls)),
                          fmt::format("{:.1f} %", 100 * tally.total / requests_total)});
  }
}

}  // namespace

ReportTable trace_table(const std::filesystem::path& file) {
  ReportTable table{"regions",
                    sections::work,
                    "Where requests spend their time",
                    file.filename().string(),
                    {"variant", "where", "region or kernel", "calls", "total", "mean", "share"},
                    {}};
  Tallies tallies;
  const StoredTrace trace = read_trace(file);
  for (const auto& [rank, spans] : trace.spans) tally_rank(spans, tallies);
  std::vector<std::pair<std::string, double>> variants;
  for (const auto& [key, tally] : tallies) {
    if (std::get<2>(key) == "request") variants.emplace_back(std::get<0>(key), tally.total);
  }
  for (const auto& [variant, total] : variants) {
    add_rows(tallies, variant, "host", total, table);
    add_rows(tallies, variant, "gpu", total, table);
  }
  return table;
}

std::string trace_section(const std::filesystem::path& results_file) {
  const std::filesystem::path file = results_file.parent_path() / "trace.json";
  if (!std::filesystem::is_regular_file(file)) return "";
  const ReportTable table = trace_table(file);
  return "<h2>Timeline</h2>\n<p>The timeline itself, " + escape_markup(table.source) +
         ", opens in Perfetto and chrome://tracing.</p>\n" + to_html(table);
}

}  // namespace chunkstate
