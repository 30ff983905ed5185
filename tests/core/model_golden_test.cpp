// SPDX-License-Identifier: Apache-2.0
// Against transformers (fp32): tests/golden/README.md.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/generate.hpp"
#include "core/model.hpp"
#include "tests/catch.hpp"
#include "tests/core/golden_file.hpp"
#include "tests/core/model_runs.hpp"

namespace chunkstate {
namespace {

using test::golden_path;
using test::GoldenFile;

const std::string models = std::string(CHUNKSTATE_SOURCE_DIR) + "/experiments/models/";

SsdSettings settings(const Model& model, const std::string& variant, std::int64_t chunk_size = 0) {
  return ssd_settings(variant, chunk_size, 1, model.config());
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, std::abs(static_cast<double>(a[i]) - b[i]));
  }
  return difference;
}

}  // namespace

TEST_CASE("logits equal transformers' for every exact variant, prefill and decode") {
  const std::string name = GENERATE(from_range(ssd_models));
  const GoldenFile golden(golden_path(name + "/expected.safetensors"));
  for (const Backend backend : backends()) {
    Model model = open_folder(golden_path(name), backend);
    for (const SsdVariant& variant : ssd_variants()) {
      if (variant.semantics != SsdSemantics::exact) continue;
      const SsdSettings ssd = settings(model, std::string(variant.name));
      for (int i = 0; golden.contains("case" + std::to_string(i) + ".tokens"); ++i) {
        const std::string prefix = "case" + std::to_string(i);
        const auto tokens = golden.integers(prefix + ".tokens");
        const auto expected = golden.floats(prefix + ".logits");
        CAPTURE(name, name_of(backend), variant.name, i, tokens.size());
        CHECK(relative_difference(all_logits(model, ssd, tokens, 0), expected) <= 1e-4);
        CHECK(relative_difference(all_logits(model, ssd, tokens, 1), expected) <= 1e-4);
        CHECK(relative_difference(all_logits(model, ssd, tokens, 5), expected) <= 1e-4);
      }
    }
  }
}

TEST_CASE("greedy tokens equal transformers', with and without a cache") {
  const std::string name = GENERATE(from_range(ssd_models));
  const GoldenFile golden(golden_path(name + "/expected.safetensors"));
  Model model = open_folder(golden_path(name), backends().back());
  for (int i = 0; golden.contains("case" + std::to_string(i) + ".tokens"); ++i) {
    const std::string prefix = "case" + std::to_string(i);
    const std::vector<std::vector<std::int32_t>> prompts = {golden.integers(prefix + ".tokens")};
    const std::vector<std::uint64_t> seeds = {1};
    GenerateOptions options;
    options.max_new_tokens = 12;
    for (const bool use_cache : {true, false}) {
      options.use_cache = use_cache;
      CAPTURE(name, i, use_cache);
      const auto result =
          generate(model, settings(model, "default_optimized"), prompts, seeds, options);
      CHECK(result[0].tokens == golden.integers(prefix + ".greedy"));
    }
  }
}

TEST_CASE("the trained models score and continue text as transformers does") {
  const GoldenFile golden(golden_path("tiny-expected.safetensors"));
  for (const std::string family : {"bamba", "llama"}) {
    Model model = open_folder(models + family + "-tiny");
    const SsdSettings ssd = settings(model, "default_optimized");
    for (int i = 0; golden.contains("doc" + std::to_string(i) + ".tokens"); ++i) {
      const std::string doc = "doc" + std::to_string(i);
      const auto tokens = golden.integers(doc + ".tokens");
      CAPTURE(family, i, tokens.size());
      CHECK(largest_difference(score(model, ssd, tokens),
                               golden.floats(doc + "." + family + ".nll")) <= 1e-4);
      const auto logits = all_logits(model, ssd, tokens, 0);
      const auto last = golden.floats(doc + "." + family + ".last_logits");
      CHECK(relative_difference(
                {logits.end() - static_cast<std::ptrdiff_t>(last.size()), logits.end()}, last) <=
            1e-4);
      if (family != "bamba") continue;
      const std::vector<std::vector<std::int32_t>> prompts = {
          {tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(tokens.size() / 2)}};
      const std::vector<std::uint64_t> seeds = {1};
      GenerateOptions options;
      options.max_new_tokens = 24;
      CHECK(generate(model, ssd, prompts, seeds, options)[0].tokens ==
            golden.integers(doc + ".bamba.greedy24_from_half"));
    }
  }
}

TEST_CASE("independent and own_end_state score as their definitions do in double precision") {
  const GoldenFile golden(golden_path("tiny-expected.safetensors"));
  Model model = open_folder(models + "bamba-tiny");
  for (int i = 0; golden.contains("doc" + std::to_string(i) + ".tokens"); ++i) {
    const std::string doc = "doc" + std::to_string(i);
    const auto tokens = golden.integers(doc + ".tokens");
    for (const std::string variant : {"independent", "own_end_state"}) {
      for (const int chunk_size : {64, 128, 256}) {
        CAPTURE(i, variant, chunk_size);
        const auto expected =
            golden.floats(doc + ".bamba." + variant + "." + std::to_string(chunk_size) + ".nll");
        const auto nll = score(model, settings(model, variant, chunk_size), tokens);
        CHECK(largest_difference(nll, expected) <= 1e-3);
      }
    }
  }
}

}  // namespace chunkstate
