// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/errors.hpp"
#include "experiments/cli/results_path.hpp"
#include "experiments/cli/verb.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/record/results_file.hpp"
#include "experiments/record/results_reader.hpp"
#include "experiments/record/temporary_file.hpp"
#include "experiments/report/chart.hpp"
#include "experiments/report/figures.hpp"
#include "experiments/report/page.hpp"
#include "experiments/report/png.hpp"
#include "experiments/report/tables.hpp"
#include "experiments/report/trace_table.hpp"

namespace chunkstate {
namespace {

namespace fs = std::filesystem;

struct ReportFlags {
  std::string file;
  std::string page;
  std::string figures;
  std::string csv;
  std::string ceilings;
};

// The peaks that `bench --json` measured.
Ceilings read_ceilings(const std::string& file) {
  Ceilings ceilings;
  if (file.empty()) return ceilings;
  std::ifstream stream(file);
  if (!stream) throw InputError(file + ": cannot be read");
  const auto json = nlohmann::json::parse(stream, nullptr, false);
  const auto peak = [&](const char* name) {
    const nlohmann::json::json_pointer place(std::string("/peaks/") + name);
    const bool known = !json.is_discarded() && json.contains(place) && json.at(place).is_number();
    const double value = known ? json.at(place).get<double>() : 0;
    if (!(value > 0)) {
      throw InputError(file + ": no positive number in peaks." + name +
                       ", expected what `chunkstate bench prefill ... --json` prints");
    }
    return value;
  };
  ceilings.flops = peak("gemm_flops");
  ceilings.bytes = peak("copy_bytes_per_second");
  ceilings.file = fs::path(file).filename().string();
  return ceilings;
}

// Written beside its name and renamed: a page that somebody looks at is whole.
void put(const fs::path& path, const std::string& text) {
  const TemporaryFile temporary(path);
  write_durably(temporary.path(), text);
  rename_durably(temporary.path(), path);
  fmt::print("{}\n", path.string());
}

void put_tables(const fs::path& directory, const StoredResults& results) {
  make_directories(directory);
  for (const ReportTable& table : report_tables(results)) {
    put(directory / (table.name + ".csv"), to_csv(table));
    put(directory / (table.name + ".md"), to_markdown(table));
    put(directory / (table.name + ".tex"), to_latex(table));
  }
}

void put_figures(const fs::path& directory, const StoredResults& results,
                 const Ceilings& ceilings) {
  make_directories(directory);
  bool can_draw = true;
  for (const Figure& figure : report_figures(results, ceilings)) {
    const fs::path file = directory / (figure.name + ".svg");
    put(file, svg_file(figure.svg));
    if (can_draw) can_draw = draw_png(file, fs::path(file).replace_extension(".png"));
    if (can_draw) fmt::print("{}\n", fs::path(file).replace_extension(".png").string());
  }
  if (!can_draw) {
    fmt::print(stderr, "no PNG: rsvg-convert is not in PATH (package librsvg2-bin)\n");
  }
}

int report_verb(const ReportFlags& flags) {
  const Ceilings ceilings = read_ceilings(flags.ceilings);
  const std::string file = results_path(flags.file);
  const StoredResults results = read_results(file);
  const fs::path page =
      flags.page.empty() ? fs::path(file).replace_extension(".html") : fs::path(flags.page);
  put(page, report_page(results, fs::path(file).filename().string(), content_digest(results),
                        trace_section(file), ceilings));
  if (!flags.figures.empty()) put_figures(flags.figures, results, ceilings);
  if (!flags.csv.empty()) put_tables(flags.csv, results);
  return exit_ok;
}

}  // namespace

void add_report(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<ReportFlags>();
  CLI::App* verb = app.add_subcommand(
      "report", "One self-contained HTML page of a results file: tables and plots");
  verb->add_option("file", flags->file, "results.h5, or the folder of a run")->required();
  verb->add_option("-o,--output", flags->page, "the page; default: the file's name with .html");
  verb->add_option(
      "--figures", flags->figures,
      "also write each plot as SVG into this folder, and as PNG if rsvg-convert is there");
  verb->add_option(
      "--ceilings", flags->ceilings,
      "what `bench prefill|decode ... --json` printed on this machine: the roof of the "
      "roofline");
  verb->add_option("--csv", flags->csv,
                   "also write the tables as CSV, Markdown and LaTeX into this folder");
  verb->callback([flags, &action] { action = [flags] { return report_verb(*flags); }; });
}

}  // namespace chunkstate
