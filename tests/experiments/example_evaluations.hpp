// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "experiments/record/results_file.hpp"
#include "tests/experiments/example_records.hpp"

namespace chunkstate {

/// Results as they are read from a file: 3 ways to execute 12 prompts of 1 to 4 chunks, 3 repeats,
/// repeat 0 evaluated. A function of nothing. Prompt 11 at point 2 could not be evaluated; request
/// (0, 5, 1) had a third of its processor time.
inline StoredResults evaluated_results() {
  StoredResults results;
  results.spec.name = "evaluated <&> \"example\"";
  results.spec.yaml_resolved = "name: evaluated # <script>\n";
  results.spec.config_hash = "0123456789abcdef0123456789abcdef";
  results.spec.measure.repeats = 3;
  results.spec.axis_paths = {"ssm.variant", "execution.mode"};
  const std::vector<std::vector<std::string>> axes = {{"\"default\"", "\"eager\""},
                                                      {"\"default_optimized\"", "\"graph\""},
                                                      {"\"independent\"", "\"graph\""}};
  for (std::size_t point = 0; point < axes.size(); ++point) {
    SweepPoint added;
    added.index = static_cast<std::int64_t>(point);
    added.axes = {{"ssm.variant", axes[point][0]}, {"execution.mode", axes[point][1]}};
    results.spec.points.push_back(added);
  }
  for (std::int64_t prompt = 0; prompt < 12; ++prompt) {
    Prompt added;
    added.id = "prompt-" + std::to_string(prompt);
    added.text = "a <b> & \"c\"";
    added.num_chunks = 1 + prompt % 4;
    results.prompts.prompts.push_back(added);
  }
  results.models = {{.name = "bamba-tiny", .architecture = "bamba", .dtype = "fp32"}};
  results.model_of_point = {0, 0, 0};
  results.processes.resize(2);
  for (std::size_t rank = 0; rank < 2; ++rank) {
    results.processes[rank].rank = static_cast<std::int64_t>(rank);
    results.processes[rank].ranks = 2;
    results.processes[rank].backend = "cpu";
    results.processes[rank].start_utc = "2026-11-21T10:31:02Z";
  }
  for (std::int64_t point = 0; point < 3; ++point) {
    for (std::int64_t prompt = 0; prompt < 12; ++prompt) {
      for (std::int64_t repeat = 0; repeat < 3; ++repeat) {
        RequestRecord record = example_record(point, prompt, repeat, 6);
        record.process = prompt % 2;
        if (point == 0 && prompt == 5 && repeat == 1) record.cpu_percent /= 3;
        results.requests.push_back(record);
        if (repeat > 0) continue;
        const double loss = 0.1 * static_cast<double>(point) * (1 + 0.1 * std::sin(prompt));
        auto evaluation = std::make_shared<Evaluation>();
        evaluation->reference_nll_mean = 2 + 0.01 * static_cast<double>(prompt);
        if (point == 2 && prompt == 11) {
          evaluation->error = "error: no memory";
        } else {
          evaluation->nll_prompt = 2.5 + loss;
          evaluation->nll_answer = 1.5 + loss;
          evaluation->nll_mean = evaluation->reference_nll_mean + loss;
          evaluation->kl_mean = loss / 2;
          evaluation->kl_max = loss * 3;
          evaluation->top1_agreement = 1 - loss;
          evaluation->logit_max_abs = 5 * loss;
          evaluation->state_drift = {loss, 2 * loss, 4 * loss};
          evaluation->first_divergence = 6 - 2 * point;
          for (std::size_t aspect = 0; aspect < judged_aspects.size(); ++aspect) {
            evaluation->gptscore[aspect].average =
                -2 - loss + 0.05 * std::cos(static_cast<double>(prompt) * (1.0 + aspect));
          }
        }
        results.requests.back().evaluation = std::move(evaluation);
      }
    }
  }
  return results;
}

}  // namespace chunkstate
