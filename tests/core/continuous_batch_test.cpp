// SPDX-License-Identifier: Apache-2.0
// Sequences that come and go in one batch against each of them alone.
#include "core/continuous_batch.hpp"

#include <algorithm>
#include <cmath>
#include <random>

#include "core/errors.hpp"
#include "core/open_model.hpp"
#include "core/variant_names.hpp"
#include "tests/catch.hpp"
#include "tests/core/batch_runs.hpp"
#include "tests/core/golden_file.hpp"
#include "tests/core/model_runs.hpp"

namespace chunkstate {
namespace {

ModelOptions options_of(Backend backend, DType dtype = DType::fp32) {
  ModelOptions options;
  options.backend = backend;
  options.threads = 1;
  options.dtype = dtype;
  options.residual_dtype = dtype;
  return options;
}

using Tokens = std::vector<std::int32_t>;
using Prompt = BatchedPrompt;

struct Draw {
  std::mt19937 random;
  std::int64_t below(std::int64_t end) {
    return static_cast<std::int64_t>(random() % static_cast<unsigned>(end));
  }
  template <class T>
  T one_of(std::initializer_list<T> choices) {
    return choices.begin()[below(static_cast<std::int64_t>(choices.size()))];
  }
};

std::vector<Prompt> draw_prompts(Draw& draw, std::int64_t count, std::int64_t vocab) {
  std::vector<Prompt> prompts;
  for (std::int64_t p = 0; p < count; ++p) {
    Prompt prompt;
    const std::int64_t length = 1 + draw.below(draw.one_of<std::int64_t>({3, 20, 45}));
    for (std::int64_t t = 0; t < length; ++t) {
      prompt.tokens.push_back(static_cast<std::int32_t>(draw.below(vocab)));
    }
    prompt.seed = static_cast<std::uint64_t>(draw.random());
    prompt.max_new_tokens = 1 + draw.below(14);
    prompts.push_back(prompt);
  }
  return prompts;
}

void check_draw(const std::string& family, unsigned seed) {
  Draw draw{std::mt19937(seed)};
  const OpenModel files = open_model({test::golden_path(family)});
  const auto backend = draw.one_of({Backend::cpu, Backend::cpu, Backend::reference});
  const auto dtype = draw.one_of({DType::fp32, DType::fp32, DType::bf16});
  Model model(files.config, files.checkpoint, options_of(backend, dtype));
  const std::string variant =
      family.starts_with("mamba1")
          ? draw.one_of<std::string>({"eager", "fused", "fused_block", "chunked"})
          : draw.one_of<std::string>(
                {"sequential", "default", "default_optimized", "independent", "lookback"});
  const SsdSettings ssd =
      ssd_settings(variant, draw.one_of<std::int64_t>({1, 8, 16}), 2, files.config);
  const auto slots = draw.one_of<std::int64_t>({1, 2, 3, 5, 18});
  const std::vector<Prompt> prompts = draw_prompts(draw, slots + 4, files.config.vocab_size);
  GenerateOptions options;
  options.sampling.temperature = draw.one_of({0.0F, 0.9F});
  options.prefill_tokens = draw.one_of<std::int64_t>({0, 7});
  options.stop_tokens = {7, 11, 13, 17};
  const auto together = run_together(model, ssd, prompts, slots, 60, options);
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    const Generated alone = run_alone(model, ssd, prompts[p], options);
    const Generated& found = together[p].generated;
    CAPTURE(family, seed, name_of(backend), name_of(dtype), variant, slots, p);
    CHECK(found.tokens == alone.tokens);
    CHECK(found.logprobs == alone.logprobs);  // bit for bit
    CHECK(found.stopped == alone.stopped);
    CHECK(together[p].emitted == alone.tokens);
    CHECK(together[p].error.empty());
    CHECK(std::isnan(together[p].mean_batch) == (found.tokens.size() == 1));
    if (found.tokens.size() > 1) {
      CHECK(together[p].mean_batch >= 1);
      CHECK(together[p].mean_batch <= static_cast<double>(slots));
    }
  }
}

Prompt prompt_of(std::initializer_list<std::int32_t> tokens, std::int64_t max_new_tokens) {
  return {tokens, 0, max_new_tokens};
}

// Another checkpoint's tensors, but that a token's embedding is NaN.
class NanToken : public Checkpoint {
 public:
  NanToken(std::shared_ptr<const Checkpoint> base, std::int32_t token)
      : base_(std::move(base)), token_(token) {}

  CheckpointTensor tensor(const std::string& name,
                          const std::vector<std::int64_t>& extents) const override {
    CheckpointTensor tensor = base_->tensor(name, extents);
    if (name != "model.embed_tokens.weight") return tensor;
    REQUIRE(tensor.dtype == DType::fp32);
    embedding_.resize(static_cast<std::size_t>(extents[0] * extents[1]));
    std::copy_n(reinterpret_cast<const float*>(tensor.data), embedding_.size(), embedding_.begin());
    std::fill_n(embedding_.begin() + token_ * extents[1], extents[1], std::nanf(""));
    tensor.data = reinterpret_cast<const std::byte*>(embedding_.data());
    return tensor;
  }
  bool contains(const std::string& name) const override { return base_->contains(name); }
  DType dtype(const std::string& name) const override { return base_->dtype(name); }
  bool made_in_memory() const override { return true; }
  std::string digest() const override { return base_->digest(); }
  std::int64_t bytes() const override { return base_->bytes(); }

 private:
  std::shared_ptr<const Checkpoint> base_;
  std::int32_t token_;
  mutable std::vector<float> embedding_;
};

}  // namespace

TEST_CASE("every sequence of a continuous batch is the one it is alone, bit for bit") {
  for (const auto& models : {ssd_models, mamba1_models}) {
    for (const std::string& model : models) {
      for (unsigned seed = 0; seed < 3; ++seed) check_draw(model, seed);
    }
  }
}

TEST_CASE("a newcomer takes the slot of the sequence that ended, and steps are counted") {
  const OpenModel files = open_model({test::golden_path("bamba-a")});
  Model model(files.config, files.checkpoint, options_of(Backend::cpu));
  const SsdSettings ssd = ssd_settings("default_optimized", 0, 1, files.config);
  const std::vector<Prompt> prompts = {prompt_of({1, 2, 3}, 5), prompt_of({4}, 2),
                                       prompt_of({5, 6}, 2), prompt_of({7}, 1)};
  // Steps 1: the first two; 2: the first and the third, after which the fourth ends at its
  // prefill; 3 and 4: the first.
  const auto found = run_together(model, ssd, prompts, 2, 8, {});
  CHECK(found[0].mean_batch == 6.0 / 4);
  CHECK(found[1].mean_batch == 2.0);
  CHECK(found[2].mean_batch == 2.0);
  CHECK(std::isnan(found[3].mean_batch));
  for (std::size_t p = 0; p < prompts.size(); ++p) {
    CHECK(static_cast<std::int64_t>(found[p].generated.tokens.size()) == prompts[p].max_new_tokens);
  }
}

TEST_CASE("a sequence whose logits are NaN fails alone, at its prompt or later") {
  OpenModel files = open_model({"synthetic:bamba-tiny"});
  files.config.tie_word_embeddings = false;
  const std::shared_ptr<const Checkpoint> sound =
      make_synthetic_checkpoint(files.config, 3, DType::fp32);
  Model model(files.config, sound, options_of(Backend::cpu));
  const SsdSettings ssd = ssd_settings("default_optimized", 0, 1, files.config);
  const Prompt first = prompt_of({1, 2, 3}, 6);
  const Prompt second = prompt_of({9, 8}, 6);
  const Generated expected = run_alone(model, ssd, first, {});
  const Generated other = run_alone(model, ssd, second, {});
  const std::int32_t poison = other.tokens[2];
  REQUIRE(std::count(expected.tokens.begin(), expected.tokens.end(), poison) == 0);
  REQUIRE(std::count(other.tokens.begin(), other.tokens.begin() + 2, poison) == 0);

  Model sick(files.config, std::make_shared<NanToken>(sound, poison), options_of(Backend::cpu));
  const auto found = run_together(sick, ssd, {first, second, first}, 2, 20, {});
  CHECK(found[0].generated.tokens == expected.tokens);
  CHECK(found[0].generated.logprobs == expected.logprobs);
  CHECK(found[1].generated.tokens == Tokens(other.tokens.begin(), other.tokens.begin() + 3));
  CHECK(found[1].error.find("NaN") != std::string::npos);
  CHECK(found[2].generated.tokens == expected.tokens);  // in the slot that NaN left

  ContinuousBatch batch(sick, ssd, 2, 20, {}, {});
  batch.begin(first.tokens, 0, 6);
  CHECK_THROWS_AS(batch.begin(Tokens{poison}, 0, 6), std::domain_error);
  CHECK(batch.active() == 1);
  batch.begin(first.tokens, 0, 6);
  const auto ended = batch.advance();
  REQUIRE(ended.size() == 2);
  CHECK(ended[0].generated.logprobs == expected.logprobs);
  CHECK(ended[1].generated.logprobs == expected.logprobs);
}

TEST_CASE("a batch says what it cannot take") {
  const OpenModel files = open_model({test::golden_path("bamba-a")});
  Model model(files.config, files.checkpoint, options_of(Backend::cpu));
  ContinuousBatch batch(model, ssd_settings("own_end_state", 8, 1, files.config), 1, 10, {}, {});
  CHECK(batch.advance().empty());
  CHECK_THROWS_AS(batch.begin(Tokens{}, 0, 1), UsageError);
  CHECK_THROWS_AS(batch.begin(Tokens(10, 1), 0, 1), UsageError);
  CHECK_THROWS_AS(batch.begin(Tokens(3, 1), 0, 2), UsageError);  // it cannot decode
  CHECK_THROWS_AS(batch.begin(Tokens{-1}, 0, 1), UsageError);
  CHECK(!batch.full());
  batch.begin(Tokens(9, 1), 0, 1);
  CHECK(batch.full());
  CHECK_THROWS_AS(batch.begin(Tokens(3, 1), 0, 1), std::logic_error);
  CHECK(batch.advance().size() == 1);
  GenerateOptions without_cache;
  without_cache.use_cache = false;
  CHECK_THROWS_AS(
      ContinuousBatch(model, ssd_settings("default", 8, 1, files.config), 1, 10, without_cache, {}),
      std::logic_error);
}

TEST_CASE("what a batch takes is known before") {
  const OpenModel files = open_model({"synthetic:bamba-tiny"});
  const SsdSettings ssd = ssd_settings("default_optimized", 0, 1, files.config);
  for (const std::int64_t slots : {1, 4, 40}) {
    Model model(files.config, files.checkpoint, options_of(Backend::cpu));
    const std::size_t planned = model.slots_bytes(ssd, slots, 30, 0, 50);
    {
      ContinuousBatch batch(model, ssd, slots, 50, {}, {});
      while (!batch.full()) batch.begin(Tokens(30, 1), 0, 3);
      while (batch.active() > 0) batch.advance();
    }
    CAPTURE(slots);
    CHECK(model.working_bytes() == planned);
  }
}

}  // namespace chunkstate
