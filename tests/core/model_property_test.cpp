// SPDX-License-Identifier: Apache-2.0
// The model on random shapes against the reference backend, which is the definition in double.
#include <algorithm>
#include <cmath>
#include <random>

#include "core/errors.hpp"
#include "core/generate.hpp"
#include "core/model.hpp"
#include "core/open_model.hpp"
#include "tests/catch.hpp"
#include "tests/core/model_runs.hpp"

namespace chunkstate {
namespace {

using Tokens = std::vector<std::int32_t>;

struct Case {
  ModelConfig config;
  std::int64_t tokens = 0;
};

Case draw_case(unsigned seed) {
  std::mt19937 random(seed);
  const auto pick = [&](std::initializer_list<std::int64_t> choices) {
    return choices.begin()[random() % choices.size()];
  };
  Case drawn;
  ModelConfig& c = drawn.config;
  c.family = "bamba";
  c.vocab_size = 61;
  c.groups = pick({1, 2, 3, 4});
  c.mamba_heads = c.groups * pick({1, 2, 3});
  c.mamba_head_dim = pick({3, 8, 13, 16});
  c.state_dim = pick({1, 7, 16, 33});
  c.conv_taps = pick({3, 4});
  c.conv_bias = pick({0, 1}) == 1;
  c.projection_bias = pick({0, 1}) == 1;
  c.hidden_size = 24;
  c.intermediate_size = 40;
  c.chunk_size = pick({1, 8, 16});
  c.kv_heads = pick({1, 2});
  c.attention_heads = c.kv_heads * pick({1, 3});
  c.attention_head_dim = 8;
  c.rotary_dim = 4;
  c.tie_word_embeddings = pick({0, 1}) == 1;
  c.layers = {LayerKind::mamba, LayerKind::attention, LayerKind::mamba};
  drawn.tokens = pick({1, 2, 15, 16, 17, 45, 64});
  c.norm_groups = pick({1, c.groups});
  c.rotary_dim = pick({0, 4});
  if (pick({0, 1}) == 1) {
    c.embedding_multiplier = 3.0F;
    c.attention_multiplier = 0.5F;
    c.residual_multiplier = 0.3F;
    c.logits_multiplier = 0.1F;
  }
  if (pick({0, 0, 1}) == 1) c.intermediate_size = 0;
  return drawn;
}

Model make_model(const ModelConfig& config, unsigned seed, Backend backend,
                 DType dtype = DType::fp32, int threads = 2) {
  ModelOptions options;
  options.backend = backend;
  options.threads = threads;
  options.dtype = dtype;
  options.residual_dtype = dtype;
  return {config, make_synthetic_checkpoint(config, seed, DType::bf16), options};
}

Tokens random_tokens(std::int64_t count, const ModelConfig& config, unsigned seed) {
  std::mt19937 random(seed);
  Tokens tokens(static_cast<std::size_t>(count));
  for (auto& id : tokens) {
    id = static_cast<std::int32_t>(random() % static_cast<unsigned>(config.vocab_size));
  }
  return tokens;
}

}  // namespace

TEST_CASE("every variant equals its definition at random shapes, whole, cut and token by token") {
  for (unsigned seed = 0; seed < 25; ++seed) {
    const Case drawn = draw_case(seed);
    const ModelConfig& c = drawn.config;
    Model reference = make_model(c, seed, Backend::reference);
    Model tested = make_model(c, seed, Backend::cpu);
    const Tokens tokens = random_tokens(drawn.tokens, c, seed);
    for (const SsdVariant& variant : ssd_variants()) {
      const SsdSettings ssd = ssd_settings(std::string(variant.name), c.chunk_size, 2, c);
      const auto expected = all_logits(reference, ssd, tokens, 0);
      for (const std::int64_t piece : {0, 1, 7}) {
        if (piece == 1 && !variant.causal()) continue;
        CAPTURE(seed, variant.name, piece, drawn.tokens, c.groups, c.mamba_heads, c.mamba_head_dim,
                c.state_dim, c.conv_taps, c.chunk_size);
        CHECK(relative_difference(all_logits(tested, ssd, tokens, piece), expected) <= 1e-4);
      }
    }
  }
}

TEST_CASE("a batch of unequal lengths generates what its prompts generate alone") {
  for (const bool use_cache : {true, false}) {
    for (const std::string variant : {"default_optimized", "independent", "lookback"}) {
      const Case drawn = draw_case(3);
      Model model = make_model(drawn.config, 3, Backend::cpu);
      const SsdSettings ssd = ssd_settings(variant, 8, 1, drawn.config);
      std::vector<Tokens> prompts;
      std::vector<std::uint64_t> seeds;
      for (const unsigned length : {5U, 1U, 23U, 8U}) {
        prompts.push_back(random_tokens(length, drawn.config, length));
        seeds.push_back(length);
      }
      GenerateOptions options;
      options.max_new_tokens = 12;
      options.use_cache = use_cache;
      options.sampling.temperature = 0.9F;
      options.stop_tokens = {7, 11, 13, 17, 19};  // sequences end at different steps
      const auto together = generate(model, ssd, prompts, seeds, options);
      for (std::size_t s = 0; s < prompts.size(); ++s) {
        const std::vector<Tokens> one = {prompts[s]};
        const std::vector<std::uint64_t> seed = {seeds[s]};
        const auto alone = generate(model, ssd, one, seed, options);
        CAPTURE(use_cache, variant, s);
        CHECK(together[s].tokens == alone[0].tokens);
        CHECK(together[s].stopped == alone[0].stopped);
      }
    }
  }
}

TEST_CASE("a greedy sink gets the largest of the logits that a logits sink gets") {
  const Case drawn = draw_case(3);
  Model model = make_model(drawn.config, 3, Backend::cpu);
  const SsdSettings ssd = ssd_settings("default_optimized", 0, 1, drawn.config);
  const std::vector<Tokens> prompts = {{5, 9, 1}, {7}, {2, 60, 3, 4, 8}};
  const std::vector<std::span<const std::int32_t>> batch(prompts.begin(), prompts.end());
  std::vector<Sampled> expected, found;
  SequenceState state = model.make_state(ssd, 3, 8);
  model.forward(batch, state, LogitsRows::last,
                [&](std::int64_t, std::int64_t, View<const float, 2> rows) {
                  const View<const float, 1> row(rows.data, {rows.extent[1]});
                  expected.push_back(sample(row, SamplingParams(), 0, 0));
                });
  model.reset(state);
  const GreedySink take = [&](std::int64_t sequence, const Sampled& sampled) {
    CHECK(sequence == static_cast<std::int64_t>(found.size()));
    found.push_back(sampled);
  };
  model.forward(batch, state, LogitsRows::last, take);
  REQUIRE(found.size() == 3);
  for (std::size_t s = 0; s < 3; ++s) {
    CHECK(found[s].token == expected[s].token);
    CHECK(found[s].logprob == expected[s].logprob);
  }
  model.reset(state);
  CHECK_THROWS_AS(model.forward(batch, state, LogitsRows::all, take), std::logic_error);
}

TEST_CASE("the number of threads does not change a bit") {
  for (const DType dtype : {DType::fp32, DType::bf16}) {
    const ModelConfig config = synthetic_model_config("bamba-tiny");
    const Tokens tokens = random_tokens(150, config, 1);
    std::vector<std::vector<float>> found;
    for (const int threads : {1, 2, 3}) {
      Model model = make_model(config, 1, Backend::cpu, dtype, threads);
      const SsdSettings ssd = ssd_settings("default_optimized", 64, 1, config);
      found.push_back(all_logits(model, ssd, tokens, 0));
      const auto steps = all_logits(model, ssd, Tokens(tokens.begin(), tokens.begin() + 10), 1);
      found.back().insert(found.back().end(), steps.begin(), steps.end());
    }
    CHECK(found[0] == found[1]);
    CHECK(found[0] == found[2]);
  }
}

TEST_CASE("16-bit models stay close to fp32") {
  const ModelConfig config = synthetic_model_config("bamba-tiny");
  const Tokens tokens = random_tokens(200, config, 2);
  const SsdSettings ssd = ssd_settings("default_optimized", 64, 1, config);
  Model exact = make_model(config, 2, Backend::cpu);
  const auto expected = all_logits(exact, ssd, tokens, 0);
  for (const DType dtype : {DType::bf16, DType::fp16}) {
    Model model = make_model(config, 2, Backend::cpu, dtype);
    CAPTURE(name_of(dtype));
    const double difference = relative_difference(all_logits(model, ssd, tokens, 0), expected);
    CHECK(difference <= (dtype == DType::bf16 ? 6e-2 : 1e-2));
    CHECK(difference > 1e-5);  // it did round
  }
}

TEST_CASE("the first N layers are a model of their own") {
  const Case drawn = draw_case(5);
  const Tokens tokens = random_tokens(9, drawn.config, 5);
  ModelOptions options;
  options.layers = 2;
  const auto checkpoint =
      std::shared_ptr<const Checkpoint>(make_synthetic_checkpoint(drawn.config, 5, DType::fp32));
  Model first_two(drawn.config, checkpoint, options);
  ModelConfig shorter = drawn.config;
  shorter.layers.resize(2);
  Model whole(shorter, checkpoint, ModelOptions{});
  const SsdSettings ssd = ssd_settings("default_optimized", 8, 1, drawn.config);
  CHECK(all_logits(first_two, ssd, tokens, 0) == all_logits(whole, ssd, tokens, 0));
  options.layers = 4;
  CHECK_THROWS_AS(Model(drawn.config, checkpoint, options), UsageError);
}

TEST_CASE("a variant without a decode form cannot be cached, and says so") {
  const Case drawn = draw_case(6);
  Model model = make_model(drawn.config, 6, Backend::cpu);
  const SsdSettings ssd = ssd_settings("own_end_state", 8, 1, drawn.config);
  const std::vector<Tokens> prompts = {random_tokens(5, drawn.config, 1)};
  const std::vector<std::uint64_t> seeds = {1};
  GenerateOptions options;
  options.max_new_tokens = 3;
  CHECK_THROWS_AS(generate(model, ssd, prompts, seeds, options), UsageError);
  options.use_cache = false;
  CHECK(generate(model, ssd, prompts, seeds, options)[0].tokens.size() == 3);
}

TEST_CASE("tokens beyond the state's capacity are refused") {
  const Case drawn = draw_case(7);
  Model model = make_model(drawn.config, 7, Backend::cpu);
  SequenceState state =
      model.make_state(ssd_settings("default_optimized", 8, 1, drawn.config), 1, 4);
  const Tokens tokens = random_tokens(5, drawn.config, 1);
  CHECK_THROWS_AS(model.prefill(tokens, state, 0, 0, LogitsRows::none), UsageError);
}

}  // namespace chunkstate
