// SPDX-License-Identifier: Apache-2.0
#include "experiments/report/page.hpp"

#include <fmt/format.h>

#include <set>

#include "experiments/report/chart.hpp"
#include "experiments/report/figures.hpp"
#include "experiments/report/tables.hpp"

namespace chunkstate {
namespace {

constexpr const char* page_style = R"(
:root{color-scheme:light dark;--bg:#fff;--fg:#222;--soft:#f4f5f7;--rule:#ddd}
@media (prefers-color-scheme:dark){:root{--bg:#16181c;--fg:#ddd;--soft:#202328;--rule:#3a3a3a}}
body{background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1180px;padding:12px 16px}
h1{font-size:24px;margin:.4em 0 0}h2{font-size:18px;margin:1.6em 0 .5em;border-bottom:1px solid var(--rule)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;margin:14px 0}
.card{background:var(--soft);border-radius:8px;padding:10px 12px}.card b{display:block;font-size:20px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,520px),1fr));gap:14px}
.charts figure{margin:0;background:var(--soft);border-radius:8px;padding:6px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:13px;white-space:nowrap}
caption{text-align:left;margin-bottom:4px}th,td{padding:4px 10px;border-bottom:1px solid var(--rule);text-align:left}
pre{background:var(--soft);border-radius:8px;padding:10px;overflow-x:auto;font-size:12px}code{font-size:12px;opacity:.75}
)";

std::string card(const std::string& value, const std::string& label) {
  return fmt::format("<div class=\"card\"><b>{}</b>{}</div>\n", escape_markup(value),
                     escape_markup(label));
}

std::string cards(const StoredResults& results) {
  std::int64_t failed = 0;
  std::int64_t tokens = 0;
  double busy = 0;
  for (const RequestRecord& request : results.requests) {
    if (request.status == RequestStatus::failed) {
      ++failed;
    } else {
      tokens += request.tokens_out();
      busy += request.e2e;
    }
  }
  std::set<std::string> hosts;
  for (const RankProvenance& rank : results.processes) hosts.insert(rank.host);
  const std::size_t expected = results.spec.points.size() * results.prompts.prompts.size() *
                               static_cast<std::size_t>(results.spec.measure.repeats);
  std::string html = "<div class=\"cards\">\n";
  html += card(fmt::format("{} of {}", results.requests.size(), expected), "requests");
  html += card(std::to_string(failed), "failed");
  html += card(std::to_string(results.spec.points.size()), "sweep points");
  html += card(fmt::format("{} x {}", results.prompts.prompts.size(), results.spec.measure.repeats),
               "prompts x repeats");
  html += card(fmt::format("{} on {}", results.processes.size(), hosts.size()), "ranks, hosts");
  html += card(fmt::format("{}", tokens), fmt::format("tokens in {:.0f} s of requests", busy));
  return html + "</div>\n";
}

std::string failures(const StoredResults& results) {
  ReportTable table{
      "failed", "Failed requests", "/requests/error", {"point", "prompt", "repeat", "error"}, {}};
  for (const RequestRecord& request : results.requests) {
    if (request.status != RequestStatus::failed) continue;
    table.rows.push_back({std::to_string(request.point),
                          results.prompts.prompts[static_cast<std::size_t>(request.prompt)].id,
                          std::to_string(request.repeat), request.error});
  }
  return table.rows.empty() ? "" : "<h2>Failures</h2>\n" + to_html(table);
}

std::string models(const StoredResults& results) {
  ReportTable table{"models",
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
  return to_html(table);
}

std::string charts(const StoredResults& results) {
  std::string html;
  std::string section;
  for (const Figure& figure : report_figures(results)) {
    if (figure.section != section) {
      html += fmt::format("{}<h2>{}</h2>\n<div class=\"charts\">\n",
                          section.empty() ? "" : "</div>\n", escape_markup(figure.section));
      section = figure.section;
    }
    html += "<figure>" + figure.svg + "</figure>\n";
  }
  return section.empty() ? html : html + "</div>\n";
}

}  // namespace

std::string report_page(const StoredResults& results, const std::string& file,
                        const std::string& digest, const std::string& timeline) {
  const std::string name = escape_markup(results.spec.name);
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><title>{}</title><style>{}{}</style></head>"
      "<body>\n<h1>{}</h1>\n<p><code>{} {}</code></p>\n",
      name, page_style, chart_style(), name, escape_markup(file), escape_markup(digest));
  html += cards(results);
  html += "<h2>Results</h2>\n" + to_html(summary_table_of(results));
  html += charts(results);
  html += timeline;
  html += failures(results);
  html += "<h2>Provenance</h2>\n" + models(results) + to_html(rank_table_of(results));
  html += fmt::format(
      "<h2>Experiment</h2>\n<p><code>/config/yaml_resolved, config_hash {}</code></p>"
      "\n<pre>{}</pre>\n</body></html>\n",
      escape_markup(results.spec.config_hash), escape_markup(results.spec.yaml_resolved));
  return html;
}

}  // namespace chunkstate
