// SPDX-License-Identifier: Apache-2.0
#include "experiments/report/page.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "experiments/analysis/disturbance.hpp"
#include "experiments/report/chart.hpp"
#include "experiments/report/figures.hpp"
#include "experiments/report/sections.hpp"
#include "experiments/report/tables.hpp"

namespace chunkstate {
namespace {

constexpr const char* page_style = R"(
:root{color-scheme:light dark;--bg:#fff;--fg:#222;--soft:#f4f5f7;--rule:#ddd}
@media (prefers-color-scheme:dark){:root{--bg:#16181c;--fg:#ddd;--soft:#202328;--rule:#3a3a3a}}
body{background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1180px;padding:12px 16px;overflow-wrap:anywhere}
h1{font-size:24px;margin:.4em 0 0}h2{font-size:18px;margin:1.6em 0 .5em;border-bottom:1px solid var(--rule)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:10px;margin:14px 0}
.card{background:var(--soft);border-radius:8px;padding:10px 12px}.card b{display:block;font-size:20px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,460px),1fr));gap:14px;margin:12px 0}
.charts figure{margin:0;background:var(--soft);border-radius:8px;padding:6px;min-width:0}
.scroll{overflow-x:auto;margin:0 0 14px}table{border-collapse:collapse;font-size:13px;white-space:nowrap}
.caption{font-size:13px;margin:10px 0 4px}th,td{padding:4px 10px;border-bottom:1px solid var(--rule);text-align:left}
pre{background:var(--soft);border-radius:8px;padding:10px;overflow-x:auto;font-size:12px}code{font-size:12px;opacity:.75}
)";

std::string card(const std::string& value, const std::string& label) {
  return fmt::format("<div class=\"card\"><b>{}</b>{}</div>\n", escape_markup(value),
                     escape_markup(label));
}

std::string cards(const StoredResults& results) {
  std::int64_t failed = 0;
  std::int64_t skipped = 0;
  std::int64_t tokens = 0;
  double busy = 0;
  for (const RequestRecord& request : results.requests) {
    if (request.status == RequestStatus::failed) ++failed;
    if (request.status == RequestStatus::skipped) ++skipped;
    if (request.status == RequestStatus::done) {
      tokens += request.tokens_out();
      busy += request.e2e;
    }
  }
  const std::vector<bool> disturbed = disturbed_requests(results);
  std::set<std::string> hosts;
  for (const RankProvenance& rank : results.processes) hosts.insert(rank.host);
  const std::size_t expected = results.spec.points.size() * results.prompts.prompts.size() *
                               static_cast<std::size_t>(results.spec.measure.repeats);
  std::string html = "<div class=\"cards\">\n";
  html += card(fmt::format("{} of {}", results.requests.size(), expected), "requests");
  html += card(std::to_string(failed), "failed");
  if (skipped > 0) html += card(std::to_string(skipped), "skipped");
  html += card(std::to_string(std::count(disturbed.begin(), disturbed.end(), true)), "disturbed");
  html += card(std::to_string(results.spec.points.size()), "sweep points");
  html += card(fmt::format("{} x {}", results.prompts.prompts.size(), results.spec.measure.repeats),
               "prompts x repeats");
  html += card(fmt::format("{} on {}", results.processes.size(), hosts.size()), "ranks, hosts");
  html += card(fmt::format("{}", tokens), fmt::format("tokens in {:.0f} s of requests", busy));
  return html + "</div>\n";
}

// Tables and figures under their headings.
std::string body(const StoredResults& results, const std::string& timeline,
                 const Ceilings& ceilings) {
  const std::vector<ReportTable> tables = report_tables(results);
  const std::vector<Figure> figures = report_figures(results, ceilings);
  std::string html;
  for (const std::string section : sections::in_order) {
    std::string of_tables;
    std::string of_figures;
    for (const ReportTable& table : tables) {
      if (table.section == section) of_tables += to_html(table);
    }
    for (const Figure& figure : figures) {
      if (figure.section == section) of_figures += "<figure>" + figure.svg + "</figure>\n";
    }
    if (section == sections::failures) html += timeline;
    if (of_tables.empty() && of_figures.empty()) continue;
    html += "<h2>" + escape_markup(section) + "</h2>\n" + of_tables;
    if (!of_figures.empty()) html += "<div class=\"charts\">\n" + of_figures + "</div>\n";
  }
  return html;
}

}  // namespace

std::string report_page(const StoredResults& results, const std::string& file,
                        const std::string& digest, const std::string& timeline,
                        const Ceilings& ceilings) {
  const std::string name = escape_markup(results.spec.name);
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><title>{}</title><link rel=\"icon\" "
      "href=\"data:,\"><style>{}{}</style></head><body>\n<h1>{}</h1>\n<p><code>{} {}</code></p>\n",
      name, page_style, chart_style(), name, escape_markup(file), escape_markup(digest));
  html += cards(results);
  html += fmt::format(
      "<p>Small dots are single requests; a cross is one that was disturbed: without a GPU, and "
      "with less than {:.0f} % of its sweep point's median <code>/requests/cpu_percent</code>, or "
      "on a GPU slowed by heat or its supply (<code>/requests/throttled</code>). None is left out "
      "of a number.</p>\n",
      100 * undisturbed_cpu_share);
  html += body(results, timeline, ceilings);
  html += fmt::format(
      "<h2>Experiment</h2>\n<p><code>/config/yaml_resolved, config_hash {}</code></p>"
      "\n<pre>{}</pre>\n</body></html>\n",
      escape_markup(results.spec.config_hash), escape_markup(results.spec.yaml_resolved));
  return html;
}

}  // namespace chunkstate
