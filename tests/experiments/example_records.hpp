// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <random>
#include <string>

#include "experiments/record/journal.hpp"
#include "experiments/record/request_record.hpp"

namespace chunkstate {

/// A finished request with `tokens` tokens, a function of its arguments only.
inline RequestRecord example_record(std::int64_t point, std::int64_t prompt, std::int64_t repeat,
                                    std::int64_t tokens = 5) {
  std::mt19937_64 random(static_cast<std::uint64_t>(point * 1000003 + prompt * 101 + repeat));
  const auto uniform = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  RequestRecord record;
  char id[40];
  std::snprintf(id, sizeof(id), "%08x%08x%08x%08x", 0xABCDU, static_cast<unsigned>(point),
                static_cast<unsigned>(prompt), static_cast<unsigned>(repeat));
  record.item_id = id;
  record.point = point;
  record.prompt = prompt;
  record.repeat = repeat;
  record.tokens_in = 7 + prompt;
  record.stop_reason = prompt % 2 == 0 ? "length" : "eos";
  record.text = "Prompt " + std::to_string(prompt) + " \xE2\x82\xAC \xF0\x9F\x98\x80 \"q\"\n";
  record.flops = 1e9 * (1 + uniform());
  record.bytes_moved = 1e6 * (1 + uniform());
  record.rank = prompt % 3;
  record.t_start = uniform();
  record.ttft = 0.01 * (1 + uniform());
  double emitted = record.ttft;
  for (std::int64_t i = 0; i < tokens; ++i) {
    record.token_ids.push_back(static_cast<std::int32_t>(random() % 128000));
    record.logprobs.push_back(static_cast<float>(-10 * uniform()));
    record.t_emit.push_back(emitted);
    record.e2e = emitted;
    emitted += 0.002 * (1 + uniform());
  }
  record.peak_memory_bytes = 123456789;
  record.cpu_percent = 99.5;
  record.io_wait = 0.25;
  record.batch_mean = 1 + uniform();
  if (repeat == 0) record.warmup_seconds = 1.5;
  return record;
}

inline RequestRecord failed_record(std::int64_t point, std::int64_t prompt, std::int64_t repeat,
                                   const std::string& error) {
  RequestRecord record = example_record(point, prompt, repeat, 0);
  record.status = RequestStatus::failed;
  record.error = error;
  record.stop_reason.clear();
  record.text.clear();
  record.ttft = record.e2e = record.flops = record.bytes_moved =
      std::numeric_limits<double>::quiet_NaN();
  return record;
}

/// With every number set, all different for different seeds.
inline Evaluation example_evaluation(unsigned seed) {
  std::mt19937_64 random(seed);
  const auto set = [&](const auto&, const char*, double& value) {
    value = static_cast<double>(random() >> 11) * 0x1p-53;
  };
  Evaluation evaluation;
  visit_comparison(evaluation, set);
  visit_gptscore(evaluation, set);
  evaluation.first_divergence = static_cast<std::int64_t>(seed);
  evaluation.state_drift = {0.5, 0.25 * seed};
  return evaluation;
}

inline RunStart example_start() {
  RunStart start;
  start.run_id = "20261121T103102Z-01234567";
  start.items = 12;
  start.config_hash = "c0";
  start.plan_hash = "f0";
  start.prompts_digest = "aa";
  start.model_digest = "bb";
  start.yaml_resolved = "ssm:\n  variant: default\n  chunk_size: 64\nname: x\n";
  start.provenance.rank = 0;
  start.provenance.host = "node1";
  return start;
}

}  // namespace chunkstate
