// SPDX-License-Identifier: Apache-2.0
#include "experiments/export/export.hpp"

#include <fmt/format.h>

#include "core/errors.hpp"
#include "experiments/cli/verb.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/record/results_file.hpp"
#include "experiments/record/temporary_file.hpp"

namespace chunkstate {
namespace {

struct ExportFlags {
  std::string file;
  std::string format = "csv";
  std::string output;
};

struct ExportFormat {
  const char* name;
  std::string (*text)(const StoredResults& results);
};

constexpr ExportFormat export_formats[] = {
    {"csv", export_csv}, {"tsv-seed", export_seed_tsv}, {"jsonl", export_json_lines}};

const ExportFormat& format_named(const ExportFlags& flags) {
  for (const ExportFormat& format : export_formats) {
    if (flags.format == format.name) return format;
  }
  if (flags.format == "parquet") {
    throw UsageError("--format parquet: not written here; in Python: xarray.open_dataset('" +
                     flags.file +
                     "', group='requests').to_dataframe().to_parquet('requests.parquet')");
  }
  throw UsageError("--format: found '" + flags.format + "', expected csv, tsv-seed or jsonl");
}

int export_verb(const ExportFlags& flags) {
  const ExportFormat& format = format_named(flags);
  const std::string text = format.text(read_results(flags.file));
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
  CLI::App* verb = app.add_subcommand(
      "export",
      "The requests of a results file for other programs: CSV, the seed's TSV, JSON Lines");
  verb->add_option("file", flags->file, "results.h5")->required();
  verb->add_option("--format", flags->format,
                   "csv (default), tsv-seed: the seed project's columns, jsonl: lines for MLflow, "
                   "wandb and the like");
  verb->add_option("-o,--output", flags->output, "a file; default: standard output");
  verb->callback([flags, &action] { action = [flags] { return export_verb(*flags); }; });
}

}  // namespace chunkstate
