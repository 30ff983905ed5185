// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "tests/core/batch_runs.hpp"
#include "tests/core/gpu_runs.hpp"

// Recorded, fused and batched decode steps on a GPU: the same text, the same bits every time.
namespace chunkstate::test {
namespace {

TEST_CASE("Recording changes no bit, nor does a second run") {
  const SsdSettings ssd = scan(tiny(), "default_optimized");
  for (const DType dtype : {DType::bf16, DType::fp16, DType::fp32}) {
    for (const bool fusion : {false, true}) {
      CAPTURE(name_of(dtype), fusion);
      Model eager(tiny().config, tiny().checkpoint,
                  options(Backend::cuda, dtype, ExecutionMode::eager, fusion));
      Model graph(tiny().config, tiny().checkpoint,
                  options(Backend::cuda, dtype, ExecutionMode::graph, fusion));
      const Generated expected = run(eager, ssd, {prompt(30)}, 50)[0];
      for (int repeat = 0; repeat < 3; ++repeat) {
        const Generated found = run(graph, ssd, {prompt(30)}, 50)[0];
        CHECK(found.tokens == expected.tokens);
        CHECK(found.logprobs == expected.logprobs);
      }
    }
  }
}

TEST_CASE("A sequence's fused steps do not depend on the batch, up to 8") {
  Model model(tiny().config, tiny().checkpoint,
              options(Backend::cuda, DType::bf16, ExecutionMode::graph, true));
  const SsdSettings ssd = scan(tiny(), "lookback");
  const std::vector<std::vector<std::int32_t>> prompts = {prompt(9), prompt(30), prompt(17)};
  const auto together = run(model, ssd, prompts, 30);
  for (std::size_t s = 0; s < prompts.size(); ++s) {
    const auto alone = run(model, ssd, {prompts[s]}, 30)[0];
    CAPTURE(s);
    CHECK(alone.tokens == together[s].tokens);
    // The prompts' products are the library's, whose order of sums may depend on the batch.
    for (std::size_t t = 0; t < alone.logprobs.size(); ++t) {
      CHECK(std::abs(alone.logprobs[t] - together[s].logprobs[t]) < 0.02F);
    }
  }
}

// Prompts of many lengths that want other numbers of tokens, more of them than there are slots.
std::vector<BatchedPrompt> ragged_prompts(std::size_t count) {
  std::vector<BatchedPrompt> prompts;
  for (std::size_t p = 0; p < count; ++p) {
    prompts.push_back({prompt(1 + p * 13 % 41), p, 1 + static_cast<std::int64_t>(p * 7 % 23)});
  }
  return prompts;
}

// Also a token that some of them write stops them, while later steps are open.
GenerateOptions stopping_at(std::int32_t token, float temperature = 0.0F) {
  GenerateOptions wanted;
  wanted.stop_tokens = {token};
  wanted.sampling.temperature = temperature;
  return wanted;
}

TEST_CASE("Sequences that come and go in a batch on a GPU write the host's text in fp32") {
  Model host(tiny().config, tiny().checkpoint, options(Backend::cpu, DType::fp32));
  const std::vector<BatchedPrompt> prompts = ragged_prompts(17);
  const std::int32_t stop =
      run(host, scan(tiny(), "default_optimized"), {prompt(14)}, 8)[0].tokens[5];
  for (const ExecutionMode mode : {ExecutionMode::eager, ExecutionMode::graph}) {
    Model device(tiny().config, tiny().checkpoint, options(Backend::cuda, DType::fp32, mode));
    for (const char* variant : {"default_optimized", "independent", "lookback"}) {
      for (const std::int64_t slots : {1, 5, 12}) {
        for (const float temperature : {0.0F, 0.8F}) {
          // A draw may fall between two roundings: sampled texts are the device's own, whose sums
          // are the same in up to 8 slots.
          if (temperature > 0 && slots > 8) continue;
          Model& other = temperature > 0 ? device : host;
          const SsdSettings ssd = scan(tiny(), variant);
          const GenerateOptions wanted = stopping_at(stop, temperature);
          const auto found = run_together(device, ssd, prompts, slots, 70, wanted);
          for (std::size_t p = 0; p < prompts.size(); ++p) {
            CAPTURE(variant, slots, temperature, p, static_cast<int>(mode));
            const Generated alone = run_alone(other, ssd, prompts[p], wanted);
            CHECK(found[p].generated.tokens == alone.tokens);
            CHECK(found[p].generated.stopped == alone.stopped);
            CHECK(found[p].emitted == alone.tokens);
          }
        }
      }
    }
  }
}

TEST_CASE("What is in a batch's other slots does not change a bit, nor do up to 8 fused slots") {
  std::vector<BatchedPrompt> prompts = ragged_prompts(21);
  for (const bool fusion : {false, true}) {
    for (const ExecutionMode mode : {ExecutionMode::eager, ExecutionMode::graph}) {
      Model model(tiny().config, tiny().checkpoint,
                  options(Backend::cuda, DType::bf16, mode, fusion));
      const SsdSettings ssd = scan(tiny(), "independent");
      const std::int32_t stop = run(model, ssd, {prompt(14)}, 8)[0].tokens[5];
      const GenerateOptions wanted = stopping_at(stop);
      for (const std::int64_t slots : {3, 8, 13}) {
        const auto found = run_together(model, ssd, prompts, slots, 70, wanted);
        std::vector<BatchedPrompt> reversed(prompts.rbegin(), prompts.rend());
        const auto other = run_together(model, ssd, reversed, slots, 70, wanted);
        for (std::size_t p = 0; p < prompts.size(); ++p) {
          CAPTURE(fusion, static_cast<int>(mode), slots, p);
          const Generated& one = found[p].generated;
          const Generated& again = other[prompts.size() - 1 - p].generated;
          CHECK(one.tokens == again.tokens);
          CHECK(one.logprobs == again.logprobs);
          if (!fusion || slots > 8) continue;
          const Generated alone = run_alone(model, ssd, prompts[p], wanted);
          CHECK(one.tokens == alone.tokens);
          CHECK(one.logprobs == alone.logprobs);
        }
      }
    }
  }
}

}  // namespace
}  // namespace chunkstate::test
