// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "experiments/cli/verb.hpp"
#include "experiments/spec/experiment_spec.hpp"

namespace chunkstate {
namespace {

struct CheckFlags {
  std::string file;
  std::vector<std::string> overrides;
};

int check_verb(const CheckFlags& flags) {
  const ExperimentSpec spec = load_experiment(flags.file, flags.overrides);
  fmt::print("{}# {} points; config_hash {}\n", spec.yaml_resolved, spec.points.size(),
             spec.config_hash);
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
