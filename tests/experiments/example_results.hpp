// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "experiments/record/results_file.hpp"
#include "tests/experiments/example_records.hpp"

namespace chunkstate {

/// A small experiment with all kinds of columns: 2 points x 3 prompts x 2 repeats, one request
/// failed.
struct ExampleExperiment {
  ExperimentSpec spec;
  PromptSet prompts;

  ExampleExperiment() {
    spec.name = "example \xE2\x82\xAC";
    spec.yaml_source = "schema: 1\nname: example # \xE2\x82\xAC\n";
    spec.yaml_resolved = "name: example\nssm:\n  chunk_size: 64\n";
    spec.config_hash = "0123456789abcdef0123456789abcdef";
    spec.measure.repeats = 2;
    spec.axis_paths = {"ssm.variant", "ssm.chunk_size", "generation.temperature"};
    const std::vector<std::vector<std::string>> values{{"default", "64", "0.5"},
                                                       {"independent", "256", "1"}};
    for (std::size_t point = 0; point < values.size(); ++point) {
      spec.points.push_back({.index = static_cast<std::int64_t>(point)});
      for (std::size_t axis = 0; axis < spec.axis_paths.size(); ++axis) {
        spec.points[point].axes.push_back({spec.axis_paths[axis], values[point][axis]});
      }
    }
    prompts.digest = "fedcba9876543210fedcba9876543210";
    prompts.prompts = {
        {.id = "first",
         .text = "Who?\n\"Me\"",
         .answer = "you",
         .token_len = 5,
         .num_chunks = 1,
         .extra = {{"topic", "\"rivers \xE2\x82\xAC\""}, {"level", "3"}, {"text", "\"again\""}}},
        {.id = "second", .text = "", .answer = "", .extra = {{"score", "0.5"}, {"level", "4"}}},
        {.id = "third",
         .text = std::string(5000, 'x'),
         .answer = "a",
         .token_len = 900,
         .num_chunks = 4,
         .extra = {{"a/b c", "[1, 2]"}, {"level", "5"}}}};
  }
};

inline ResultsContent example_content(const ExampleExperiment& experiment) {
  ResultsContent content{experiment.spec, experiment.prompts};
  content.models = {
      {.name = "bamba-tiny",
       .architecture = "bamba",
       .dtype = "bf16",
       .digest = "aaaa",
       .parameters = 1000,
       .weight_bytes = 2000,
       .state_bytes = 64,
       .kv_bytes_per_token = 8,
       .flops_per_token = 2000,
       .bytes_per_token = 2064},
      {.name = "bamba-other", .architecture = "bamba", .dtype = "bf16", .digest = "bbbb"}};
  content.model_of_point = {0, 1};
  content.run = collect_run_provenance({"chunkstate", "run", "exp.yaml"}, "Open MPI");
  for (int rank = 0; rank < 3; ++rank) {
    content.processes.push_back(collect_rank_provenance());
    content.processes.back().rank = rank;
  }
  for (std::int64_t point = 0; point < 2; ++point) {
    for (std::int64_t prompt = 0; prompt < 3; ++prompt) {
      for (std::int64_t repeat = 0; repeat < 2; ++repeat) {
        content.requests.push_back(example_record(point, prompt, repeat, 3 + prompt));
        content.requests.back().process = prompt;
      }
    }
  }
  content.requests[5] =
      failed_record(0, 2, 1, "InputError: the prompt has 900 tokens, the model takes 512");
  return content;
}

}  // namespace chunkstate
