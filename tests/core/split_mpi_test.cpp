// SPDX-License-Identifier: Apache-2.0
// One sequence over real MPI ranks, against one that computes it alone. CHECK only: a rank that
// left a test early would leave the others waiting.
#define CATCH_CONFIG_RUNNER
#include <algorithm>
#include <cstring>
#include <iostream>

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
    const auto ranges = split_ranges(model.config(), c.ssd, tokens, world->size());
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
