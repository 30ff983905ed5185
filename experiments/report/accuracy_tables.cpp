// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "experiments/analysis/evaluation_columns.hpp"
#include "experiments/analysis/run_comparison.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/report/point_data.hpp"
#include "experiments/report/sections.hpp"
#include "experiments/report/tables.hpp"

namespace chunkstate {
namespace {

constexpr std::size_t most_points_in_pairs = 4;

struct AccuracyColumn {
  std::string key;
  std::string title;
  EvaluationValue value;
};

constexpr std::pair<const char*, const char*> titles[] = {
    {"nll_prompt", "NLL prompt"},
    {"nll_answer", "NLL answer"},
    {"nll_mean", "NLL"},
    {"reference_nll_mean", "NLL of the reference"},
    {"kl_mean", "KL"},
    {"kl_max", "largest KL"},
    {"top1_agreement", "top-1 agreement"},
    {"first_divergence", "tokens before the first other"},
    {"logit_max_abs", "largest logit difference"},
    {"gptscore_quality", "GPTScore quality"},
    {"gptscore_naturalness", "GPTScore naturalness"},
    {"gptscore_informativeness", "GPTScore informativeness"}};

// Those that any request has.
std::vector<AccuracyColumn> accuracy_columns(const StoredResults& results) {
  const std::vector<EvaluationColumn> stored = evaluation_columns();
  std::vector<AccuracyColumn> columns;
  for (const auto& [key, title] : titles) {
    const auto found = std::find_if(stored.begin(), stored.end(), [name = key](const auto& column) {
      return column.name == name;
    });
    columns.push_back({key, title, found->value});
    if (columns.back().key != "reference_nll_mean") continue;
    columns.push_back({"nll_difference", "NLL - reference",
                       [](const Evaluation& e) { return e.nll_mean - e.reference_nll_mean; }});
  }
  std::erase_if(columns, [&](const AccuracyColumn& column) {
    return !any_evaluation(results, column.value);
  });
  return columns;
}

std::vector<std::pair<std::size_t, std::size_t>> pairs_of(std::size_t points) {
  std::vector<std::pair<std::size_t, std::size_t>> pairs;
  const std::size_t bases = points <= most_points_in_pairs ? points : 1;
  for (std::size_t a = 0; a < bases; ++a) {
    for (std::size_t b = a + 1; b < points; ++b) pairs.emplace_back(a, b);
  }
  return pairs;
}

std::string signed_number(double value) { return (value > 0 ? "+" : "") + format_number(value); }

std::string probability(double p) {
  return std::isnan(p) ? "-" : p < 0.001 ? fmt::format("{:.1e}", p) : fmt::format("{:.3f}", p);
}

}  // namespace

ReportTable accuracy_table_of(const StoredResults& results) {
  ReportTable table{"accuracy",
                    sections::accuracy,
                    "Against the exact reference: means over prompts, with 95 % intervals; nats "
                    "per token",
                    "/accuracy",
                    {"point", "prompts"},
                    {}};
  const std::vector<AccuracyColumn> columns = accuracy_columns(results);
  if (columns.empty()) return table;
  for (const AccuracyColumn& column : columns) table.header.emplace_back(column.title, column.key);
  for (const SweepPoint& point : results.spec.points) {
    std::int64_t evaluated = 0;
    for (const RequestRecord& request : requests_of(results, point.index)) {
      if (request.evaluation != nullptr && request.evaluation->error.empty()) ++evaluated;
    }
    std::vector<TableCell> cells = {short_name(point)};
    cells.emplace_back(std::to_string(evaluated), static_cast<double>(evaluated), NAN, NAN);
    for (const AccuracyColumn& column : columns) {
      const MeanInterval m = evaluation_mean(results, point, column.value);
      cells.emplace_back(with_interval(m.mean, m.low, m.high, format_number), m.mean, m.low,
                         m.high);
    }
    table.rows.push_back(std::move(cells));
  }
  return table;
}

ReportTable gptscore_table_of(const StoredResults& results) {
  ReportTable table{"gptscore",
                    sections::accuracy,
                    "GPTScore of B minus that of A, prompt by prompt: Wilcoxon signed-rank test, p "
                    "corrected after Holm within the aspect",
                    "/accuracy/gptscore_*",
                    {"aspect",
                     "A",
                     "B",
                     "prompts",
                     "equal",
                     {"B - A", "difference"},
                     "p",
                     {"p corrected", "p_corrected"}},
                    {}};
  for (std::size_t aspect = 0; aspect < judged_aspects.size(); ++aspect) {
    const EvaluationValue value = [aspect](const Evaluation& e) {
      return e.gptscore[aspect].average;
    };
    if (!any_evaluation(results, value)) continue;
    const auto pairs = pairs_of(results.spec.points.size());
    std::vector<PairedTest> tests;
    std::vector<double> p;
    for (const auto& [a, b] : pairs) {
      const std::vector<double> of_a = by_prompt(results, results.spec.points[a], value);
      std::vector<double> differences = by_prompt(results, results.spec.points[b], value);
      for (std::size_t i = 0; i < differences.size(); ++i) differences[i] -= of_a[i];
      tests.push_back(paired_test(differences, b));
      p.push_back(tests.back().p);
    }
    const std::vector<double> corrected = holm(p);
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const MeanInterval& d = tests[i].difference;
      table.rows.push_back(
          {judged_aspects[aspect], short_name(results.spec.points[pairs[i].first]),
           short_name(results.spec.points[pairs[i].second]), std::to_string(d.n),
           std::to_string(tests[i].equal),
           TableCell(with_interval(d.mean, d.low, d.high, signed_number), d.mean, d.low, d.high),
           TableCell(probability(p[i]), p[i], NAN, NAN),
           TableCell(probability(corrected[i]), corrected[i], NAN, NAN)});
    }
  }
  return table;
}

}  // namespace chunkstate
