// SPDX-License-Identifier: Apache-2.0
// One sequence, and one model, over real MPI ranks, against one that computes it alone. CHECK only:
// a rank that left a test early would leave the others waiting.
#define CATCH_CONFIG_RUNNER
#include <algorithm>
#include <cstring>
#include <iostream>

#include "core/errors.hpp"
#include "core/tensor_share.hpp"
#include "parallel/communicator.hpp"
#include "tests/catch.hpp"
#include "tests/core/split_case.hpp"

using namespace chunkstate;

namespace {

Communicator* world = nullptr;
Differences worst;

std::vector<float> joined(const std::vector<float>& mine) {
  const std::string bytes(reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(float));
  std::vector<float> all;
  for (const std::string& part : world->all_gather(bytes)) {
    if (part.empty()) continue;  // and `all` perhaps too: no address to copy to
    const std::size_t begin = all.size();
    all.resize(begin + part.size() / sizeof(float));
    std::memcpy(all.data() + begin, part.data(), part.size());
  }
  return all;
}

SplitResult on_all_ranks(Model& model, const SplitCase& c, const std::vector<Range>& ranges) {
  const SplitResult mine = run_split(model, c, *world, ranges);
  return {joined(mine.logits), joined(mine.nll), joined(mine.states)};
}

}  // namespace

TEST_CASE("an exact split gives what one rank gives") {
  for (unsigned seed = 100; seed < 118; ++seed) {
    const SplitCase c = draw_split_case(seed);
    Model model = make_split_model(c);
    const auto ranges = random_ranges(c, seed, world->size());
    const SplitResult found = on_all_ranks(model, c, ranges);
    if (world->rank() != 0) continue;
    CAPTURE(seed, c.ssd.variant->name, c.ssd.chunk_size, c.ssd.lookback, c.tokens.size(), ranges);
    const Differences difference = differences(found, run_alone(model, c));
    CHECK(difference.largest() <= 1e-5);
    worst.logits = std::max(worst.logits, difference.logits);
    worst.nll = std::max(worst.nll, difference.nll);
    worst.states = std::max(worst.states, difference.states);
  }
}

TEST_CASE("ranges of split_ranges give every variant's results bit for bit") {
  for (unsigned seed = 200; seed < 218; ++seed) {
    const SplitCase c = draw_split_case(seed);
    Model model = make_split_model(c);
    const auto tokens = static_cast<std::int64_t>(c.tokens.size());
    const auto ranges = split_ranges(c.ssd, tokens, world->size());
    const SplitResult found = on_all_ranks(model, c, ranges);
    if (world->rank() != 0) continue;
    CAPTURE(seed, c.ssd.variant->name, c.ssd.chunk_size, c.ssd.lookback, c.tokens.size(), ranges);
    CHECK(found == run_alone(model, c));
  }
}

TEST_CASE("a group generates what one rank generates, with and without a cache") {
  for (unsigned seed = 300; seed < 312; ++seed) {
    const SplitCase c = draw_split_case(seed);
    Model model = make_split_model(c);
    const std::vector<std::vector<std::int32_t>> prompt = {c.tokens};
    const std::vector<std::uint64_t> seeds = {seed};
    GenerateOptions options;
    options.max_new_tokens = 5;
    options.use_cache = c.ssd.variant->causal() && seed % 2 == 0;
    options.sampling.temperature = 0.9F;
    options.stop_tokens = {7, 11, 13};
    options.group = world;
    const auto found = generate(model, c.ssd, prompt, seeds, options);
    const bool last = world->rank() + 1 == world->size();
    CAPTURE(seed, options.use_cache, c.ssd.variant->name, c.tokens.size());
    CHECK(found.size() == (last ? 1 : 0));
    if (found.empty()) continue;
    options.group = nullptr;
    const auto expected = generate(model, c.ssd, prompt, seeds, options);
    CHECK(found[0].tokens == expected[0].tokens);
    CHECK(found[0].logprobs == expected[0].logprobs);
    CHECK(found[0].stopped == expected[0].stopped);
  }
}

namespace {

// Shapes that so many ranks can share: the draw's heads and groups are few.
SplitCase draw_tensor_case(unsigned seed, int ranks) {
  SplitCase c = draw_split_case(seed);
  std::mt19937 random(seed + 77);
  const auto pick = [&](std::initializer_list<std::int64_t> choices) {
    return choices.begin()[random() % choices.size()];
  };
  c.config.groups = pick({1, ranks, 2 * ranks, ranks + 1});
  c.config.mamba_heads = c.config.groups * pick({ranks, ranks + 1, 2 * ranks});
  c.config.kv_heads = pick({1, ranks, ranks + 1});
  c.config.attention_heads = c.config.kv_heads * pick({ranks, ranks + 2});
  c.config.intermediate_size = pick({40, 41, 96, 130});
  c.config.projection_bias = pick({0, 1}) == 1;
  c.config.tie_word_embeddings = pick({0, 1}) == 1;
  if (seed % 3 == 0) {
    c.config.family = "llama";
    c.config.layers.assign(3, LayerKind::attention);
    c.config.rotary_dim = c.config.attention_head_dim;
    c.config.mamba_heads = c.config.groups = 0;
    c.config.mamba_head_dim = c.config.state_dim = c.config.conv_taps = 0;
    c.config.projection_bias = false;
  } else if (seed % 6 == 1) {
    c.config.family = "granitemoehybrid";  // gate and up in one matrix
    c.config.rotary_dim = 0;
    c.config.norm_groups = c.config.groups >= ranks ? c.config.groups : 1;
    c.config.embedding_multiplier = 3.0F;
    c.config.attention_multiplier = 0.2F;
    c.config.residual_multiplier = 0.4F;
    c.config.logits_multiplier = 0.25F;
  } else if (seed % 6 == 2) {
    c.config.family = "mamba2";
    c.config.layers.assign(3, LayerKind::mamba);
    c.config.intermediate_size = c.config.attention_heads = c.config.kv_heads = 0;
    c.config.attention_head_dim = c.config.rotary_dim = 0;
    c.config.norm_groups = c.config.groups >= ranks ? c.config.groups : 1;
    c.config.residual_in_fp32 = true;
  }
  if (c.tokens.size() > 130) c.tokens.resize(130);
  return c;
}

// The whole model's states, cut to what a rank has of them.
std::vector<float> own_part(SequenceState& state, const SplitCase& c, const TensorShare& share) {
  std::vector<float> values;
  const auto tokens = static_cast<std::int64_t>(c.tokens.size());
  const auto take = [&](const AnyView<3>& view) {
    for (std::int64_t i = 0; i < view.extent[0]; ++i) {
      for (std::int64_t j = 0; j < view.extent[1]; ++j) {
        for (std::int64_t k = 0; k < view.extent[2]; ++k) values.push_back(view.load(i, j, k));
      }
    }
  };
  for (std::size_t layer = 0; layer < c.config.layers.size(); ++layer) {
    if (c.config.layers[layer] == LayerKind::mamba) {
      const AnyView<4> ssd = state.ssd_state(layer)[0];
      const bool whole = ssd.extent[1] == c.config.mamba_heads;
      const Range heads = whole ? share.mamba_heads : Range{0, ssd.extent[1]};
      for (std::int64_t slot = 0; slot < ssd.extent[0]; ++slot) {
        take(ssd[slot].slice(0, heads.begin, heads.end));
      }
    } else {
      for (const AnyView<4>& cache : {state.keys(layer), state.values(layer)}) {
        const bool whole = cache.extent[2] == c.config.kv_heads;
        const Range heads = whole ? share.kv_heads : Range{0, cache.extent[2]};
        take(cache[0].slice(0, 0, tokens).slice(1, heads.begin, heads.end));
      }
    }
  }
  return values;
}

SplitResult run_tensor(Model& model, const SplitCase& c, const TensorShare& share) {
  SplitResult result;
  SequenceState state = state_for(model, c);
  const std::vector<std::span<const std::int32_t>> batch = {c.tokens};
  model.forward(batch, state, LogitsRows::all, logits_into(result, c));
  result.states = own_part(state, c, share);
  for (const std::int32_t token : c.next) {
    const std::vector<std::span<const std::int32_t>> one = {{&token, 1}};
    model.forward(one, state, LogitsRows::all,
                  [&](std::int64_t, std::int64_t, View<const float, 2> row) {
                    result.logits.insert(result.logits.end(), row.data, row.data + row.extent[1]);
                  });
  }
  return result;
}

ModelOptions tensor_options(RankGroup* group) {
  ModelOptions options;
  options.tensor_group = group;
  return options;
}

}  // namespace

TEST_CASE("a tensor split gives what one rank gives, on every rank") {
  Differences largest;
  for (unsigned seed = 400; seed < 430; ++seed) {
    const SplitCase c = draw_tensor_case(seed, world->size());
    const auto weights = std::shared_ptr<const Checkpoint>(
        make_synthetic_checkpoint(c.config, seed, seed % 2 == 0 ? DType::bf16 : DType::fp32));
    Model whole(c.config, weights, tensor_options(nullptr));
    Model part(c.config, weights, tensor_options(world));
    const TensorShare share = tensor_share(c.config, world->rank(), world->size());
    const SplitResult found = run_tensor(part, c, share);
    CAPTURE(seed, world->size(), c.config.family, c.config.mamba_heads, c.config.groups,
            c.config.attention_heads, c.config.kv_heads, c.config.intermediate_size,
            c.ssd.variant->name, c.ssd.chunk_size, c.tokens.size());
    const Differences difference = differences(found, run_tensor(whole, c, share));
    CHECK(difference.largest() <= 1e-5);
    const std::string mine(reinterpret_cast<const char*>(found.logits.data()),
                           found.logits.size() * sizeof(float));
    for (const std::string& other : world->all_gather(mine)) CHECK(other == mine);
    largest.logits = std::max(largest.logits, difference.logits);
    largest.nll = std::max(largest.nll, difference.nll);
    largest.states = std::max(largest.states, difference.states);
  }
  if (world->rank() == 0) {
    std::cout << "tensor split, largest relative differences: logits " << largest.logits << ", nll "
              << largest.nll << ", states " << largest.states << "\n";
  }
}

TEST_CASE("ranks of a tensor split all generate one rank's text") {
  for (unsigned seed = 500; seed < 506; ++seed) {
    const SplitCase c = draw_tensor_case(seed, world->size());
    const auto weights =
        std::shared_ptr<const Checkpoint>(make_synthetic_checkpoint(c.config, seed, DType::fp32));
    Model whole(c.config, weights, tensor_options(nullptr));
    Model part(c.config, weights, tensor_options(world));
    const std::vector<std::vector<std::int32_t>> prompts = {c.tokens, {1, 2, 3}};
    const std::vector<std::uint64_t> seeds = {seed, seed + 1};
    GenerateOptions options;
    options.max_new_tokens = 6;
    options.use_cache = c.ssd.variant->causal();
    options.sampling.temperature = seed % 2 == 0 ? 0.0F : 0.7F;
    const auto found = generate(part, c.ssd, prompts, seeds, options);
    const auto expected = generate(whole, c.ssd, prompts, seeds, options);
    CAPTURE(seed, c.config.family, c.ssd.variant->name);
    for (std::size_t s = 0; s < prompts.size(); ++s) CHECK(found[s].tokens == expected[s].tokens);
  }
}

TEST_CASE("shapes that do not go round are refused with what would") {
  ModelConfig config = synthetic_model_config("bamba-9b");
  CHECK(tensor_share(config, 2, 3).mamba_heads == Range{86, 128});
  CHECK(tensor_share(config, 3, 4).config.in_proj_size() == 2048 + 2304 + 32);
  CHECK_THROWS_WITH(tensor_share(config, 0, 12),
                    "tensor split over 12 ranks: the model has 32 attention heads, kv heads: 8, "
                    "expected at most 8 ranks, or a multiple of 8 up to 32");
  CHECK_THROWS_AS(tensor_share(config, 0, 64), UsageError);
  CHECK_NOTHROW(tensor_share(config, 0, 16));
  config.groups = config.norm_groups = 4;
  CHECK(tensor_share(config, 1, 2).config.norm_groups == 2);
  CHECK_THROWS_WITH(tensor_share(config, 0, 8),
                    "tensor split over 8 ranks: the norm of each of the model's 4 groups is one "
                    "rank's, expected at most 4 ranks");
  CHECK_THROWS_WITH(
      tensor_share(synthetic_model_config("mamba1-lm"), 0, 2),
      "tensor split over 2 ranks: mamba-1 layers are not shared out, expected 1 rank");
}

int main(int argc, char** argv) {
  const auto owner = make_world();
  world = owner.get();
  world->watch({.seconds = 30, .adaptive = false});
  const int failed = Catch::Session().run(argc, argv);
  if (world->rank() == 0) {
    std::cout << "largest relative differences: logits " << worst.logits << ", nll " << worst.nll
              << ", states " << worst.states << "\n";
  }
  const auto all = world->all_gather(std::to_string(failed));
  return std::any_of(all.begin(), all.end(), [](const auto& one) { return one != "0"; }) ? 1 : 0;
}
