// SPDX-License-Identifier: Apache-2.0
// Family mamba1. Golden values: tests/golden/README.md.
#include "core/mamba1.hpp"

#include <algorithm>

#include "core/cost.hpp"
#include "core/generate.hpp"
#include "core/variant_names.hpp"
#include "tests/catch.hpp"
#include "tests/core/golden_file.hpp"
#include "tests/core/model_runs.hpp"
#include "tests/core/split_case.hpp"

namespace chunkstate {
using test::golden_path;
using test::GoldenFile;

TEST_CASE("mamba1's logits equal transformers' for every variant, prefill and decode") {
  const std::string name = GENERATE(from_range(mamba1_models));
  const GoldenFile golden(golden_path(name + "/expected.safetensors"));
  for (const Backend backend : backends()) {
    Model model = open_folder(golden_path(name), backend);
    for (const std::string& variant : selective_scan_variant_names()) {
      const SsdSettings ssd = ssd_settings(variant, 8, 1, model.config());
      for (int i = 0; golden.contains("case" + std::to_string(i) + ".tokens"); ++i) {
        const std::string prefix = "case" + std::to_string(i);
        const auto tokens = golden.integers(prefix + ".tokens");
        const auto expected = golden.floats(prefix + ".logits");
        CAPTURE(name, name_of(backend), variant, i, tokens.size());
        for (const std::int64_t piece : {0, 1, 5}) {
          CHECK(relative_difference(all_logits(model, ssd, tokens, piece), expected) <= 1e-4);
        }
      }
    }
  }
}

TEST_CASE(
    "mamba1's greedy tokens equal transformers', alone and in a batch, with and without cache") {
  const std::string name = GENERATE(from_range(mamba1_models));
  const GoldenFile golden(golden_path(name + "/expected.safetensors"));
  Model model = open_folder(golden_path(name), backends().back());
  std::vector<std::vector<std::int32_t>> prompts;
  for (int i = 0; i < 3; ++i) {
    prompts.push_back(golden.integers("case" + std::to_string(i) + ".tokens"));
  }
  prompts.push_back(prompts.back());  // neighbours of one length run together
  const std::vector<std::uint64_t> seeds(prompts.size(), 1);
  GenerateOptions options;
  options.max_new_tokens = 12;
  for (const bool use_cache : {true, false}) {
    options.use_cache = use_cache;
    for (const std::string& variant : selective_scan_variant_names()) {
      const SsdSettings ssd = ssd_settings(variant, 8, 1, model.config());
      const auto results = generate(model, ssd, prompts, seeds, options);
      for (std::size_t i = 0; i < prompts.size(); ++i) {
        CAPTURE(name, use_cache, variant, i);
        CHECK(results[i].tokens ==
              golden.integers("case" + std::to_string(std::min<std::size_t>(i, 2)) + ".greedy"));
      }
    }
  }
}

TEST_CASE("a mamba1 model in 16 bits stays near the one in fp32") {
  const GoldenFile golden(golden_path("mamba1-b/expected.safetensors"));
  for (const DType dtype : {DType::bf16, DType::fp16}) {
    Model model = open_folder(golden_path("mamba1-b"), Backend::cpu, dtype);
    const SsdSettings ssd = ssd_settings("default_optimized", 0, 1, model.config());
    CAPTURE(name_of(dtype));
    CHECK(relative_difference(all_logits(model, ssd, golden.integers("case2.tokens"), 0),
                              golden.floats("case2.logits")) <= 0.05);
  }
}

TEST_CASE("the ranks of a mamba1 sequence give what one rank gives") {
  for (const std::string& name : mamba1_models) {
    Model model = open_folder(golden_path(name));
    for (const std::string& variant : selective_scan_variant_names()) {
      SplitCase c;
      c.config = model.config();
      c.ssd = ssd_settings(variant, 16, 1, c.config);
      for (int t = 0; t < 300; ++t) c.tokens.push_back(t * 37 % 61);
      c.next = {5, 6, 7};
      const SplitResult expected = run_alone(model, c);
      for (const int ranks : {2, 3}) {
        const SplitResult found =
            run_ranks([&] { return open_folder(golden_path(name)); }, c, split_ranges(c.ssd, 300, ranks));
        CAPTURE(name, variant, ranks);
        CHECK(differences(found, expected).largest() <= 1e-5);
        if (variant != "chunked") CHECK(found == expected);
      }
    }
  }
}

TEST_CASE("synthetic:mamba1-lm has the benchmark's shape, and its seeded weights run") {
  const ModelConfig config = synthetic_model_config("mamba1-lm");
  CHECK(config.parameters() == 60'228'608);
  CHECK(config.layers.size() == 8);
  const SsdSettings ssd = ssd_settings("fused", 0, 1, config);
  const SequenceStateBytes state = sequence_state_bytes(config, DType::fp32, DType::fp32, ssd);
  CHECK(state.fixed == 8 * 4 * (1024 * 16 + 3 * 1024));
  CHECK(state.per_token == 0);
  // The benchmark's matrix products: 22.1 GFLOP for 2 x 128 tokens with their logits.
  const Cost cost = forward_cost(config, {}, ssd, 0, 128, 128);
  CHECK(2 * cost.flops == Approx(22.1e9).margin(0.3e9));

  ModelConfig two = config;
  two.layers.resize(2);
  Model model(two, make_synthetic_checkpoint(two, 7, DType::bf16), ModelOptions{});
  const std::vector<std::int32_t> tokens = {1, 16383, 7, 7, 7};
  const auto logits = all_logits(model, ssd, tokens, 0);
  CHECK(relative_difference(all_logits(model, ssd, tokens, 2), logits) <= 1e-5);
}

TEST_CASE("a scan's variant must belong to the model's family") {
  const ModelConfig mamba1 = synthetic_model_config("mamba1-lm");
  const ModelConfig bamba = synthetic_model_config("bamba-tiny");
  CHECK(ssd_settings("default_optimized", 0, 1, mamba1).variant->name == "fused_block");
  CHECK(ssd_settings("eager", 0, 1, mamba1).variant != ssd_settings("fused", 0, 1, mamba1).variant);
  CHECK_THROWS_WITH(ssd_settings("independent", 0, 1, mamba1),
                    "unknown Mamba-1 variant 'independent'; known: eager, fused, fused_block, "
                    "chunked");
  CHECK_THROWS_WITH(ssd_settings("fused", 0, 1, bamba),
                    "unknown SSD variant 'fused' (it is one of family mamba1); known: sequential, "
                    "default, default_optimized, independent, lookback, own_end_state");
}

TEST_CASE("a mamba config.json says what is wrong with it") {
  const std::string good =
      R"({"model_type":"mamba","vocab_size":10,"hidden_size":8,"num_hidden_layers":2)";
  const ModelConfig config = parse_model_config(good + "}", "config.json");
  CHECK(config.dt_rank == 1);
  CHECK(config.inner_size() == 16);
  CHECK(config.tie_word_embeddings);
  const auto message = [&](const std::string& more) {
    try {
      parse_model_config(good + "," + more + "}", "config.json");
    } catch (const std::exception& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(message(R"("intermediate_size":17)") ==
        "config.json: intermediate_size 17 is not expand x hidden_size = 16");
  CHECK(message(R"("hidden_act":"gelu")") ==
        "config.json: hidden_act 'gelu' is not supported, expected 'silu'");
  CHECK(message(R"("time_step_rank":0)") ==
        "config.json: time_step_rank is 0, expected an integer from 1 to 4194304");
}

}  // namespace chunkstate
