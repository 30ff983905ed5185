// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/errors.hpp"
#include "experiments/analysis/run_comparison.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/cli/results_path.hpp"
#include "experiments/cli/verb.hpp"
#include "experiments/record/metrics.hpp"
#include "experiments/record/results_file.hpp"

namespace chunkstate {
namespace {

struct CompareFlags {
  std::vector<std::string> files;
  std::vector<std::string> metrics;
  std::vector<std::string> fail_if;
  std::string margin = "1%";
  bool json = false;
};

double margin_of(const std::string& text) {
  std::size_t used = 0;
  double percent = NAN;
  try {
    percent = std::stod(text, &used);
  } catch (const std::exception&) {
    used = std::string::npos;
  }
  if (used != text.size() - 1 || text.back() != '%' || !(percent > 0) || percent >= 100) {
    throw UsageError("--margin: found '" + text + "', expected a percentage such as 1%");
  }
  return percent / 100;
}

std::string format_metric(const std::string& name, double value) {
  const std::string units = metric_named(name).units;
  if (units == "s") return format_seconds(value);
  if (units == "byte") return format_bytes(value);
  return format_number(value);
}

std::string percent(double relative) {
  return std::isnan(relative) ? "-" : fmt::format("{:+.1f} %", 100 * relative);
}

void print_text(const RunComparison& comparison) {
  for (const std::string& line : comparison.differences) fmt::print("differs: {}\n", line);
  for (const std::string& line : comparison.unmatched) fmt::print("unmatched: {}\n", line);
  fmt::print("outputs: {} requests equal, {} different\n\n", comparison.same_outputs,
             comparison.other_outputs);
  Table table({"point", "metric", "A", "B", "change", "95 % from", "to", "prompts", "verdict"});
  for (const PointChange& c : comparison.changes) {
    table.add({c.point, c.metric, format_metric(c.metric, c.change.a),
               format_metric(c.metric, c.change.b), percent(c.change.relative),
               percent(c.change.ci_low), percent(c.change.ci_high),
               std::to_string(c.change.prompts), c.verdict});
  }
  fmt::print("{}", table.text());
}

nlohmann::json to_json(const RunComparison& comparison, const std::string& file) {
  nlohmann::json changes = nlohmann::json::array();
  for (const PointChange& c : comparison.changes) {
    changes.push_back({{"point", c.point},
                       {"metric", c.metric},
                       {"a", c.change.a},
                       {"b", c.change.b},
                       {"change", c.change.relative},
                       {"ci_low", c.change.ci_low},
                       {"ci_high", c.change.ci_high},
                       {"prompts", c.change.prompts},
                       {"unpaired", c.change.unpaired},
                       {"verdict", c.verdict}});
  }
  return {{"file", file},
          {"differences", comparison.differences},
          {"unmatched", comparison.unmatched},
          {"same_outputs", comparison.same_outputs},
          {"other_outputs", comparison.other_outputs},
          {"changes", changes}};
}

int compare_verb(const CompareFlags& flags) {
  CompareOptions options;
  if (!flags.metrics.empty()) options.metrics = flags.metrics;
  options.margin = margin_of(flags.margin);
  for (const std::string& text : flags.fail_if) {
    options.fail_if.push_back(parse_fail_condition(text));
    metric_named(options.fail_if.back().metric);  // an unknown one is refused before the table
  }
  const StoredResults base = read_results(results_path(flags.files[0]));
  nlohmann::json all = nlohmann::json::array();
  int code = exit_ok;
  for (std::size_t i = 1; i < flags.files.size(); ++i) {
    const StoredResults other = read_results(results_path(flags.files[i]));
    const RunComparison comparison = compare_runs(base, other, options);
    if (flags.json) {
      all.push_back(to_json(comparison, flags.files[i]));
    } else {
      fmt::print("{}A = {} (there)\nB = {} (here)\n", i > 1 ? "\n" : "", flags.files[0],
                 flags.files[i]);
      print_text(comparison);
    }
    for (const std::string& line : failures(base, other, options)) {
      fmt::print(stderr, "{}: {}\n", flags.files[i], line);
      code = exit_conflict;
    }
    if (comparison.changes.empty()) {
      fmt::print(stderr, "chunkstate: {} and {} have no sweep point in common: nothing compared\n",
                 flags.files[0], flags.files[i]);
      if (code == exit_ok) code = exit_other_experiment;
    }
  }
  if (flags.json) fmt::print("{}\n", all.dump(2));
  return code;
}

}  // namespace

void add_compare(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<CompareFlags>();
  CLI::App* verb = app.add_subcommand(
      "compare", "Compare results with those of the first file: FASTER, SLOWER, SAME, AMBIGUOUS");
  verb->add_option("files", flags->files, "results.h5, or the folders, of two or more runs")
      ->required()
      ->expected(2, -1);
  verb->add_option("--metric", flags->metrics,
                   "columns of /requests; default ttft tpot e2e peak_memory_bytes");
  verb->add_option("--margin", flags->margin, "smaller changes count as none; default 1%");
  verb->add_option("--fail-if", flags->fail_if,
                   "exit with 4 if it holds at a point: 'tpot_p50 > +3%'");
  verb->add_flag("--json", flags->json, "machine-readable");
  verb->callback([flags, &action] { action = [flags] { return compare_verb(*flags); }; });
}

}  // namespace chunkstate
