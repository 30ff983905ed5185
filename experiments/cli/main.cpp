// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>

#include "experiments/cli/verb.hpp"
#include "experiments/spec/key_table.hpp"

std::vector<std::string> chunkstate::command_line() {
  std::ifstream in("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> words;
  for (std::string word; std::getline(in, word, '\0');) words.push_back(word);
  return words;
}

namespace chunkstate {
namespace {

std::vector<std::string> verb_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (!verb->get_name().empty()) names.push_back(verb->get_name());  // not a group of options
  }
  return names;
}

/// What is wrong with the words after "chunkstate", in one line: CLI11 calls a misspelt verb a
/// missing one.
std::string usage_message(const CLI::App& app, int argc, char** argv, const std::string& found) {
  const CLI::App* named = &app;
  std::string command = "chunkstate";
  int next = 1;
  while (!named->get_subcommands().empty() && next < argc &&
         !named->get_subcommands().front()->get_name().empty()) {
    named = named->get_subcommands().front();
    command += " " + named->get_name();
    ++next;
  }
  const std::vector<std::string> verbs = verb_names(*named);
  if (!verbs.empty() && next < argc && argv[next][0] != '-') {
    return "unknown verb " + with_suggestion(argv[next], verbs);
  }
  std::string line = found.substr(0, found.find('\n'));
  if (!verbs.empty() && next >= argc) line = "expected a verb";
  return line + "; see `" + command + " --help`";
}

}  // namespace
}  // namespace chunkstate

int main(int argc, char** argv) {
  using namespace chunkstate;
  CLI::App app("Chunked-state experiments on Mamba-2 hybrids: YAML in, HDF5 out.", "chunkstate");
  app.require_subcommand(1);
  app.set_version_flag("--version", CHUNKSTATE_VERSION);
  VerbAction action;
  for (const auto add :
       {add_run,     add_plan,     add_check,   add_schema, add_status,   add_merge,
        add_verify,  add_gptscore, add_compare, add_report, add_export,   add_scale,
        add_submit,  add_generate, add_logits,  add_score,  add_tokenize, add_detokenize,
        add_inspect, add_bench,    add_doctor}) {
    add(app, action);
  }
  try {
    app.parse(argc, argv);
    return action();
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
    fmt::print(stderr, "chunkstate: {}\n", usage_message(app, argc, argv, error.what()));
    return exit_usage;
  } catch (...) {
    const Ending ending = ending_of(std::current_exception());
    fmt::print(stderr, "chunkstate: {}\n", ending.message);
    return ending.code;
  }
}
