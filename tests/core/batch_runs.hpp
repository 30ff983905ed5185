// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/continuous_batch.hpp"
#include "tests/catch.hpp"

namespace chunkstate {

struct BatchedPrompt {
  std::vector<std::int32_t> tokens;
  std::uint64_t seed = 0;
  std::int64_t max_new_tokens = 0;
};

struct BatchedRun {
  Generated generated;
  std::string error;
  double mean_batch = 0;
  std::vector<std::int32_t> emitted;  // by the sink
};

/// Each prompt as soon as a slot is free.
inline std::vector<BatchedRun> run_together(Model& model, const SsdSettings& ssd,
                                            const std::vector<BatchedPrompt>& prompts,
                                            std::int64_t slots, std::int64_t capacity,
                                            const GenerateOptions& options) {
  std::vector<BatchedRun> found(prompts.size());
  std::map<std::int64_t, std::size_t> in_slot;
  ContinuousBatch batch(model, ssd, slots, capacity, options,
                        [&](std::int64_t slot, const Sampled& sampled) {
                          found[in_slot.at(slot)].emitted.push_back(sampled.token);
                        });
  for (std::size_t next = 0; next < prompts.size() || batch.active() > 0;) {
    while (next < prompts.size() && !batch.full()) {
      in_slot[batch.free_slot()] = next;
      const BatchedPrompt& prompt = prompts[next++];
      batch.begin(prompt.tokens, prompt.seed, prompt.max_new_tokens);
    }
    const std::int64_t before = batch.active();
    const auto ended = batch.advance();
    REQUIRE(!ended.empty());
    REQUIRE(batch.active() == before - static_cast<std::int64_t>(ended.size()));
    for (const BatchedResult& result : ended) {
      BatchedRun& one = found[in_slot.at(result.slot)];
      one.generated = result.generated;
      one.error = result.error;
      one.mean_batch = result.mean_batch;
    }
  }
  return found;
}

inline Generated run_alone(Model& model, const SsdSettings& ssd, const BatchedPrompt& prompt,
                           GenerateOptions options) {
  options.max_new_tokens = prompt.max_new_tokens;
  const std::vector<std::vector<std::int32_t>> prompts = {prompt.tokens};
  const std::vector<std::uint64_t> seeds = {prompt.seed};
  return generate(model, ssd, prompts, seeds, options)[0];
}

}  // namespace chunkstate
