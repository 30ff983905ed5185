// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>

#include "experiments/cli/verb.hpp"

std::vector<std::string> chunkstate::command_line() {
  std::ifstream in("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> words;
  for (std::string word; std::getline(in, word, '\0');) words.push_back(word);
  return words;
}

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
    return app.exit(error) == 0 ? exit_ok : exit_usage;
  } catch (...) {
    const Ending ending = ending_of(std::current_exception());
    fmt::print(stderr, "chunkstate: {}\n", ending.message);
    return ending.code;
  }
}
