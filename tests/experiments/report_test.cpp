// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "experiments/analysis/disturbance.hpp"
#include "experiments/report/chart.hpp"
#include "experiments/report/figures.hpp"
#include "experiments/report/page.hpp"
#include "experiments/report/tables.hpp"
#include "tests/catch.hpp"
#include "tests/experiments/example_evaluations.hpp"

namespace chunkstate {
namespace {

std::size_t count_of(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

const TableCell& cell(const ReportTable& table, std::size_t row, const std::string& key) {
  const auto column = std::find_if(table.header.begin(), table.header.end(),
                                   [&](const TableColumn& c) { return c.key == key; });
  REQUIRE(column != table.header.end());
  return table.rows.at(row).at(static_cast<std::size_t>(column - table.header.begin()));
}

const Figure& figure_named(const std::vector<Figure>& figures, const std::string& name) {
  const auto found = std::find_if(figures.begin(), figures.end(),
                                  [&](const Figure& figure) { return figure.name == name; });
  REQUIRE(found != figures.end());
  return *found;
}

}  // namespace

TEST_CASE("the accuracy table has the means over prompts of what was evaluated") {
  const StoredResults results = evaluated_results();
  const ReportTable table = accuracy_table_of(results);
  REQUIRE(table.rows.size() == 3);
  CHECK(table.rows[1][0].text == "default_optimized, graph");
  CHECK(cell(table, 0, "prompts").value == 12);
  CHECK(cell(table, 2, "prompts").value == 11);  // one could not be evaluated
  double sum = 0;
  for (int prompt = 0; prompt < 11; ++prompt) sum += 0.2 * (1 + 0.1 * std::sin(prompt));
  CHECK(cell(table, 2, "nll_difference").value == Approx(sum / 11));
  CHECK(cell(table, 2, "kl_mean").value == Approx(sum / 22));
  CHECK(cell(table, 2, "first_divergence").value == 2);
  CHECK(cell(table, 2, "nll_difference").low < sum / 11);
  CHECK(cell(table, 2, "nll_difference").high > sum / 11);
  CHECK(cell(table, 0, "top1_agreement").value == 1);
}

TEST_CASE("GPTScore is tested prompt by prompt") {
  const ReportTable table = gptscore_table_of(evaluated_results());
  REQUIRE(table.rows.size() == 9);  // three aspects, three pairs
  CHECK(table.rows[0][1].text == "default, eager");
  CHECK(table.rows[0][2].text == "default_optimized, graph");
  CHECK(cell(table, 0, "difference").value < 0);
  CHECK(cell(table, 0, "p").value == Approx(2.0 / 4096));  // all of 12 prompts are lower
  CHECK(cell(table, 1, "p").value == Approx(2.0 / 2048));
  CHECK(cell(table, 0, "p_corrected").value == Approx(3 * 2.0 / 4096));
}

TEST_CASE("results without evaluations and execution axes have neither table nor figure of them") {
  StoredResults results = evaluated_results();
  CHECK(execution_table_of(results).rows.size() == 3);
  for (RequestRecord& request : results.requests) request.evaluation = nullptr;
  results.spec.axis_paths = {"ssm.variant", "ssm.chunk_size"};
  CHECK(accuracy_table_of(results).rows.empty());
  CHECK(gptscore_table_of(results).rows.empty());
  CHECK(execution_table_of(results).rows.empty());
  CHECK(accuracy_figures(results).empty());
}

TEST_CASE("outputs are compared where no axis changes what is computed") {
  StoredResults results = evaluated_results();
  results.spec.axis_paths = {"execution.attention", "generation.max_new_tokens"};
  results.model_of_point = {0, 0, 0};
  for (RequestRecord& request : results.requests) {
    request.token_ids = {4, 5, 6};
    request.logprobs = {-1.0F, -2.0F, -3.0F};
    if (request.point == 0) request.token_ids.pop_back();  // point 1 goes furthest
    if (request.point == 0) request.logprobs[0] = -1.5F;   // and writes the same
    if (request.point == 2) request.token_ids = {4, 9, 6};
  }
  const auto rows = agreement_table_of(results).rows;
  REQUIRE(rows.size() == 2);
  const double prompts = rows[0][2].value;
  CHECK(prompts == static_cast<double>(results.prompts.prompts.size()));
  CHECK(rows[0][3].value == prompts);
  CHECK(std::isnan(rows[0][4].value));
  CHECK(rows[0][5].value == 0.5);
  CHECK(rows[1][3].value == 0.0);
  CHECK(rows[1][4].value == 1.0);
  CHECK(rows[1][5].value == 0.0);
  results.spec.axis_paths.push_back("ssm.variant");
  CHECK(agreement_table_of(results).rows.empty());
}

TEST_CASE("figures show every request, and crosses those that were disturbed") {
  const StoredResults results = evaluated_results();
  const std::vector<Figure> figures = report_figures(results);
  const std::string& latency = figure_named(figures, "e2e-by-chunks").svg;
  CHECK(count_of(latency, "class=\"fill mark") == 12);    // 3 points, 4 lengths
  CHECK(count_of(latency, "class=\"fill cloud") == 107);  // 108 requests
  CHECK(count_of(latency, "class=\"disturbed") == 1);
  CHECK(count_of(figure_named(figures, "accuracy-speed-nll").svg, "class=\"fill mark") == 3);
  CHECK(count_of(figure_named(figures, "state-drift").svg, "class=\"fill mark") == 9);
  CHECK(count_of(figure_named(figures, "gptscore-quality").svg, "class=\"fill mark") == 35);
  CHECK(count_of(figure_named(figures, "gptscore-quality").svg, "<rect") == 3);
  CHECK(count_of(figure_named(figures, "timeline").svg, "class=\"fill mark") == 108);
  CHECK(count_of(figure_named(figures, "roofline").svg, "class=\"fill cloud") == 107);
}

TEST_CASE("the roofline has a roof where ceilings are given") {
  const StoredResults results = evaluated_results();
  const auto roofline = [&](const Ceilings& ceilings) {
    return figure_named(report_figures(results, ceilings), "roofline").svg;
  };
  CHECK(roofline({}).find("report --ceilings") != std::string::npos);
  const std::string svg = roofline({2e12, 1e11, "bench.json"});
  CHECK(count_of(svg, "ceilings of bench.json") >= 2);  // the source and the series
  CHECK(count_of(svg, "class=\"fill cloud") == 107);
}

TEST_CASE("a request whose GPU was slowed by heat is disturbed, one at the power cap is not") {
  StoredResults results = evaluated_results();
  const auto count = [&] {
    const std::vector<bool> disturbed = disturbed_requests(results);
    return std::count(disturbed.begin(), disturbed.end(), true);
  };
  const auto before = count();
  results.requests[3].throttled = 1;
  CHECK(count() == before);
  results.requests[4].throttled = 1 + 8;
  CHECK(count() == before + 1);
}

TEST_CASE("of very many requests some are drawn, with the disturbed and extreme ones") {
  StoredResults results = evaluated_results();
  const std::vector<RequestRecord> originals = results.requests;
  results.requests.clear();
  for (const RequestRecord& original : originals) {
    for (int copy = 0; copy < 50; ++copy) {
      results.requests.push_back(original);
      results.requests.back().e2e += 1e-6 * copy;
    }
  }
  results.requests[60].e2e = 77.5;
  const std::vector<Figure> figures = report_figures(results);
  const std::string& latency = figure_named(figures, "e2e-by-chunks").svg;
  CHECK(count_of(latency, "class=\"disturbed") == 50);
  CHECK(count_of(latency, "data-y=\"77.5\"") == 1);
  CHECK(latency.find("some requests") != std::string::npos);
  for (const Figure& figure : figures) {
    CAPTURE(figure.name);
    CHECK(count_of(figure.svg, "<title>") < most_in_cloud + 100);
  }
}

TEST_CASE("a request is disturbed below four fifths of its point's usual processor time") {
  StoredResults results = evaluated_results();
  std::vector<bool> disturbed = disturbed_requests(results);
  CHECK(std::count(disturbed.begin(), disturbed.end(), true) == 1);
  CHECK(disturbed[5 * 3 + 1]);
  results.requests[0].cpu_percent = 0.79 * 99.5;
  results.requests[1].cpu_percent = 0.81 * 99.5;
  disturbed = disturbed_requests(results);
  CHECK(disturbed[0]);
  CHECK_FALSE(disturbed[1]);
  for (RankProvenance& rank : results.processes) rank.backend = "cuda";
  disturbed = disturbed_requests(results);
  CHECK(std::count(disturbed.begin(), disturbed.end(), true) == 0);
  results.processes.clear();
  results.requests.resize(4);
  disturbed = disturbed_requests(results);
  CHECK(std::count(disturbed.begin(), disturbed.end(), true) == 0);  // four values say nothing
}

TEST_CASE("a page escapes what it was given and refers to nothing outside") {
  const std::string page = report_page(evaluated_results(), "a<b>.h5", "d1gest");
  CHECK(page.find("<script") == std::string::npos);
  CHECK(count_of(page, "http://") == count_of(page, "xmlns=\"http://www.w3.org/2000/svg\""));
  CHECK(page.find("https://") == std::string::npos);
  CHECK(page.find("a&lt;b&gt;.h5") != std::string::npos);
  for (const char* word : {"nan", "inf"}) {
    CHECK(page.find(std::string("=\"") + word) == std::string::npos);
  }
}

TEST_CASE("tables have their numbers in full in CSV and HTML") {
  ReportTable table{"t", "s", "Title", "/x", {"name", {"time", "ttft"}}, {}};
  table.rows.push_back({"a,b", TableCell("0.1 s", 0.1, 0.05, 1.0 / 3)});
  table.rows.push_back({"c_d", TableCell("-", NAN, NAN, NAN)});
  CHECK(to_csv(table) ==
        "name,ttft,ttft_low,ttft_high\r\n\"a,b\",0.1,0.05,0.3333333333333333\r\nc_d,,,\r\n");
  CHECK(to_html(table).find("<td data-value=\"0.1\" data-low=\"0.05\" "
                            "data-high=\"0.3333333333333333\">0.1 s</td>") != std::string::npos);
  CHECK(to_markdown(table) == "| name | time |\n| --- | --- |\n| a,b | 0.1 s |\n| c_d | - |\n");
  CHECK(to_latex(table).find("c\\_d & - \\\\\n") != std::string::npos);
}

TEST_CASE("axes have round marks that cover all values") {
  using V = std::vector<double>;
  CHECK(linear_ticks(0, 7, 6, Steps::decimal) == V{0, 2, 4, 6, 8});
  CHECK(linear_ticks(1, 4, 6, Steps::whole) == V{1, 2, 3, 4});
  CHECK(linear_ticks(0, 300, 6, Steps::binary) == V{0, 64, 128, 192, 256, 320});
  CHECK(logarithmic_ticks(3, 40, 10) == V{2, 5, 10, 20, 50});
  CHECK(logarithmic_ticks(1, 8, 2) == V{1, 2, 4, 8});
  CHECK(logarithmic_ticks(5, 5, 10).front() <= 5);
  CHECK(logarithmic_ticks(5, 5, 10).back() >= 5);
  CHECK(logarithmic_ticks(0.5, 5e6, 10).front() == Approx(0.1));
}

TEST_CASE("a chart without a usable value says so, and a file needs no CSS variables") {
  LineChart chart;
  chart.name = "empty";
  chart.series.push_back({"a", {{1, NAN}}});
  CHECK(to_svg(chart).find("no data") != std::string::npos);
  chart.series[0].points = {{1, 2}};
  const std::string file = svg_file(to_svg(chart));
  CHECK(file.find("var(") == std::string::npos);
  CHECK(file.find("data-x=\"1\" data-y=\"2\"") != std::string::npos);
}

TEST_CASE("no two of sixteen lines look the same") {
  LineChart chart;
  chart.name = "many";
  for (int i = 0; i < 16; ++i)
    chart.series.push_back({std::to_string(i), {{1, i + 1.0}, {2, i + 2.0}}});
  std::set<std::string> looks;
  const std::string svg = to_svg(chart);
  for (std::size_t at = svg.find("class=\"path "); at != std::string::npos;
       at = svg.find("class=\"path ", at + 1)) {
    looks.insert(svg.substr(at, svg.find('"', at + 7) - at));
  }
  CHECK(looks.size() == 16);
}

}  // namespace chunkstate
