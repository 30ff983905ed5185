// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/model.hpp"
#include "core/open_model.hpp"
#include "experiments/run/exit_code.hpp"

namespace chunkstate {

/// What the verb that was named on the command line does; returns the exit code.
using VerbAction = std::function<int()>;

// Each adds a verb's options to `app`; choosing the verb sets `action`. One file per verb.
void add_run(CLI::App& app, VerbAction& action);
void add_plan(CLI::App& app, VerbAction& action);
void add_check(CLI::App& app, VerbAction& action);
void add_schema(CLI::App& app, VerbAction& action);
void add_status(CLI::App& app, VerbAction& action);
void add_merge(CLI::App& app, VerbAction& action);
void add_verify(CLI::App& app, VerbAction& action);
void add_submit(CLI::App& app, VerbAction& action);
void add_generate(CLI::App& app, VerbAction& action);
void add_logits(CLI::App& app, VerbAction& action);
void add_score(CLI::App& app, VerbAction& action);
void add_tokenize(CLI::App& app, VerbAction& action);
void add_detokenize(CLI::App& app, VerbAction& action);
void add_inspect(CLI::App& app, VerbAction& action);
void add_compare(CLI::App& app, VerbAction& action);
void add_gptscore(CLI::App& app, VerbAction& action);
void add_report(CLI::App& app, VerbAction& action);
void add_export(CLI::App& app, VerbAction& action);
void add_scale(CLI::App& app, VerbAction& action);
void add_doctor(CLI::App& app, VerbAction& action);
void add_bench(CLI::App& app, VerbAction& action);

/// As the process was started, launcher's words excluded: for provenance.
std::vector<std::string> command_line();

/// The flags that all verbs which load a model share.
struct ModelFlags {
  std::string model;
  std::string backend = "auto";
  std::string dtype = "fp32";
  std::string state_dtype = "fp32";
  std::string variant = "default_optimized";
  std::int64_t chunk_size = 0;
  std::int64_t lookback = 1;
  std::int64_t layers = 0;
  int threads = 0;
  std::string mode = "auto";
  std::string autotune = "off";
  std::string fusion = "auto";
  std::string attention = "flash";
  std::int64_t attention_block = 0;
  std::uint64_t seed = 42;
  std::string split;  // of verbs that run in groups: sequence or tensor; empty: none

  void add_to(CLI::App& verb);
  void add_split_to(CLI::App& verb);
  ModelSource source() const;
  ModelOptions options() const;
};

/// A model ready to run, with what its flags said. Given `tensor_group`, its ranks share the model.
struct LoadedModel {
  OpenModel files;
  Model model;
  SsdSettings ssd;

  explicit LoadedModel(const ModelFlags& flags, RankGroup* tensor_group = nullptr);
};

/// The ids of a JSON file that holds a list of lists of integers. Throws InputError.
std::vector<std::vector<std::int32_t>> read_id_lists(const std::string& path);
/// The strings of a JSON file that holds a list of strings (or of {"text": ...}). Throws
/// InputError.
std::vector<std::string> read_text_list(const std::string& path);

}  // namespace chunkstate
