// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <map>

#include "core/checkpoint/model_config.hpp"
#include "experiments/cli/verb.hpp"
#include "experiments/spec/experiment_spec.hpp"

namespace chunkstate {
namespace {

struct CheckFlags {
  std::string file;
  std::vector<std::string> overrides;
};

/// Lines about files that are not on this machine: an experiment may be checked where it does not
/// run. A synthetic model's name is right or wrong everywhere: throws UsageError.
std::vector<std::string> absent_files(const ExperimentSpec& spec) {
  constexpr std::string_view synthetic = "synthetic:";
  std::map<std::string, std::string> key_of;  // path -> key
  for (const SweepPoint& point : spec.points) key_of[point.settings.model_path] = "model.path";
  if (spec.accuracy.judges()) key_of[spec.accuracy.judge] = "accuracy.gptscore.judge";
  if (!spec.prompts.file.empty()) key_of[spec.prompts.file] = "prompts.file";
  std::vector<std::string> lines;
  for (const auto& [path, key] : key_of) {
    std::error_code unknown;
    if (path.starts_with(synthetic) && key != "prompts.file") {
      synthetic_model_config(path.substr(synthetic.size()));
    } else if (!std::filesystem::exists(path, unknown)) {
      lines.push_back(key + ": " + path + ": not on this machine");
    }
  }
  return lines;
}

int check_verb(const CheckFlags& flags) {
  const ExperimentSpec spec = load_experiment(flags.file, flags.overrides);
  const std::vector<std::string> absent = absent_files(spec);
  fmt::print("{}# {} points; config_hash {}\n", spec.yaml_resolved, spec.points.size(),
             spec.config_hash);
  std::fflush(stdout);
  for (const std::string& line : absent) fmt::print(stderr, "warning: {}\n", line);
  return exit_ok;
}

}  // namespace

void add_check(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<CheckFlags>();
  CLI::App* verb = app.add_subcommand(
      "check", "Validate an experiment file; print it with all defaults filled in");
  verb->add_option("experiment", flags->file, "experiment file (YAML)")->required();
  verb->add_option("-s,--set", flags->overrides, "key.path=value, in place of the file's value");
  verb->callback([flags, &action] { action = [flags] { return check_verb(*flags); }; });
}

void add_schema(CLI::App& app, VerbAction& action) {
  CLI::App* verb = app.add_subcommand("schema", "JSON Schema of the experiment file, for editors");
  verb->callback([&action] {
    action = [] {
      fmt::print("{}\n", experiment_json_schema());
      return exit_ok;
    };
  });
}

}  // namespace chunkstate
