// SPDX-License-Identifier: Apache-2.0
#include "experiments/export/export.hpp"

#include <fmt/format.h>

#include "core/errors.hpp"
#include "experiments/cli/results_path.hpp"
#include "experiments/cli/verb.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/record/results_file.hpp"
#include "experiments/record/temporary_file.hpp"

namespace chunkstate {
namespace {

struct ExportFlags {
  std::string file;
  std::string output;
};

struct ExportFormat {
  const char* flag;
  const char* help;
  std::string (*text)(const StoredResults& results);
};

constexpr ExportFormat export_formats[] = {
    {"--csv", "all columns, comma-separated", export_csv},
    {"--tsv", "the seed project's columns, tab-separated", export_seed_tsv},
    {"--jsonl", "lines for MLflow, wandb and the like", export_json_lines},
    {"--trace", "requests as a timeline, for Perfetto and chrome://tracing", export_trace}};

[[noreturn]] void refuse_parquet(const std::string& file) {
  throw UsageError("--parquet: not written here; in Python: xarray.open_dataset('" + file +
                   "', group='requests').to_dataframe().to_parquet('requests.parquet')");
}

int export_verb(const ExportFlags& flags, const ExportFormat& format) {
  const std::string text = format.text(read_results(results_path(flags.file)));
  if (flags.output.empty()) {
    fmt::print("{}", text);
    return exit_ok;
  }
  const TemporaryFile temporary(flags.output);
  write_durably(temporary.path(), text);
  rename_durably(temporary.path(), flags.output);
  return exit_ok;
}

}  // namespace

void add_export(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<ExportFlags>();
  CLI::App* verb = app.add_subcommand("export",
                                      "The requests of a results file for other programs: CSV, the "
                                      "seed's TSV, JSON Lines, a timeline");
  verb->add_option("file", flags->file, "results.h5, or the folder of a run")->required();
  CLI::Option_group* formats = verb->add_option_group("format");
  formats->require_option(1);
  for (const ExportFormat& format : export_formats) {
    formats->add_flag_callback(
        format.flag,
        [flags, &format, &action] {
          action = [flags, &format] { return export_verb(*flags, format); };
        },
        format.help);
  }
  formats->add_flag_callback(
      "--parquet", [flags, &action] { action = [flags]() -> int { refuse_parquet(flags->file); }; },
      "says how Python writes it");
  verb->add_option("-o,--output", flags->output, "a file; default: standard output");
}

}  // namespace chunkstate
