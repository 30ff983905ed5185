// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/attention.hpp"

#include "kernels/base/bf16_tiles.hpp"
#include "kernels/base/check.hpp"
#include "tests/kernels/numbers.hpp"

using namespace chunkstate;
using namespace chunkstate::test;

namespace {

struct AttentionCase {
  Numbers q, k, v, y;
  float scale = 1.0F;
  AttentionChoice choice;

  void run(const Executor& exec) {
    AttentionArgs args{.q = q.view<3>(),
                       .k = k.view<3>(),
                       .v = v.view<3>(),
                       .scale = scale,
                       .y = y.view<3>(),
                       .choice = choice};
    // Whatever lies there must not reach the result.
    std::vector<float> scores(static_cast<std::size_t>(attention_scores(exec.backend, args)),
                              std::numeric_limits<float>::quiet_NaN());
    args.scores = {scores.data(), {static_cast<std::int64_t>(scores.size())}};
    attention(exec, args);
  }
  std::vector<const Numbers*> outputs() const { return {&y}; }
};

struct AttentionStepCase {
  Numbers q, k, v, y;
  std::vector<std::int64_t> lengths;
  float scale = 1.0F;

  void run(const Executor& exec) {
    attention_step(exec, {.q = q.view<3>(),
                          .k = k.view<4>(),
                          .v = v.view<4>(),
                          .lengths = {lengths.data(), {static_cast<std::int64_t>(lengths.size())}},
                          .scale = scale,
                          .y = y.view<3>()});
  }
  std::vector<const Numbers*> outputs() const { return {&y}; }
};

}  // namespace

TEST_CASE("The reference attention weighs visible keys only, by hand") {
  // Scores of token 0: {0}; of token 1: {0, ln 3}, so weights 1/4 and 3/4.
  AttentionCase c{.q = Numbers::of({2, 1, 1}, {1, 1}),
                  .k = Numbers::of({2, 1, 1}, {0, std::log(3.0F)}),
                  .v = Numbers::of({2, 1, 1}, {4, 8}),
                  .y = Numbers(DType::fp32, {2, 1, 1})};
  c.run(reference_executor());
  CHECK(c.y.values()[0] == 4.0F);
  CHECK(c.y.values()[1] == Approx(7.0));
}

TEST_CASE("Query heads read the kv head of their block") {
  AttentionCase c{.q = Numbers::of({1, 4, 1}, {1, 1, 1, 1}),
                  .k = Numbers::of({1, 2, 1}, {0, 0}),
                  .v = Numbers::of({1, 2, 1}, {5, 6}),
                  .y = Numbers(DType::fp32, {1, 4, 1})};
  for (const Executor& exec : {reference_executor(), cpu_executor(1)}) {
    c.run(exec);
    CHECK(c.y.values() == std::vector<float>{5, 5, 6, 6});
  }
}

TEST_CASE("attention on the CPU equals the reference") {
  for (unsigned seed = 0; seed < 30; ++seed) {
    Dice dice(seed);
    const std::int64_t tokens = dice.coin() ? dice.between(1, 20) : dice.between(60, 300);
    const std::int64_t keys = tokens + (dice.coin() ? 0 : dice.between(1, 200));
    const std::int64_t kv_heads = dice.between(1, 3);
    const std::int64_t heads = kv_heads * dice.between(1, 5);
    const std::int64_t head_dim = dice.between(1, 40);
    AttentionChoice choice;
    if (seed % 3 == 0) choice.method = AttentionMethod::naive;
    if (seed % 3 == 1) choice.block_keys = 32 << dice.between(0, 2);
    CAPTURE(seed, tokens, keys, heads, kv_heads, head_dim, choice.block_keys);
    const DType cached = dice.dtype();
    compare_backends(AttentionCase{
        .q = Numbers::random(dice.rng, dice.dtype(), {tokens, heads, head_dim}, 1, 0, dice.gap()),
        .k = Numbers::random(dice.rng, cached, {keys, kv_heads, head_dim}, 1, 0, dice.gap()),
        .v = Numbers::random(dice.rng, cached, {keys, kv_heads, head_dim}, 1, 0, dice.gap()),
        .y = Numbers(dice.dtype(), {tokens, heads, head_dim}, dice.gap()),
        .scale = 1.0F / std::sqrt(static_cast<float>(head_dim)),
        .choice = choice});
  }
}

TEST_CASE("attention of bf16 equals the reference within a hundredth") {
  for (unsigned seed = 0; seed < 40; ++seed) {
    Dice dice(seed);
    const std::int64_t tokens = dice.coin() ? dice.between(1, 40) : dice.between(60, 600);
    const std::int64_t keys = tokens + (dice.coin() ? 0 : dice.between(1, 300));
    const std::int64_t kv_heads = dice.between(1, 3);
    const std::int64_t heads = kv_heads * dice.between(1, seed % 4 == 0 ? 9 : 4);
    const std::int64_t head_dim = seed % 3 == 0 ? 128 : dice.between(1, 140);
    AttentionChoice choice;
    if (seed % 2 == 1) choice.block_keys = 32 << dice.between(0, 2);
    const float spread = seed % 5 == 0 ? 4.0F : 1.0F;  // few keys decide
    CAPTURE(seed, tokens, keys, heads, kv_heads, head_dim, choice.block_keys, spread);
    const auto random = [&](std::int64_t rows, std::int64_t parts, float width) {
      return Numbers::random(dice.rng, DType::bf16, {rows, parts, head_dim}, width, 0, dice.gap());
    };
    AttentionCase c{.q = random(tokens, heads, spread),
                    .k = random(keys, kv_heads, 1),
                    .v = random(keys, kv_heads, 1),
                    .y = Numbers(dice.coin() ? DType::bf16 : DType::fp32, {tokens, heads, head_dim},
                                 dice.gap()),
                    .scale = 1.0F / std::sqrt(static_cast<float>(head_dim)),
                    .choice = choice};
    compare_backends(c, has_bf16_tiles() ? 1e-2 : 1e-5);
  }
}

TEST_CASE("naive attention writes every score, flash none") {
  AttentionArgs args;
  args.q.extent = {1000, 4, 64};
  args.k.extent = {3000, 2, 64};
  CHECK(attention_scores(Backend::cpu, args) == 0);
  args.choice.method = AttentionMethod::naive;
  const std::int64_t scores = 4 * 1000 * 3000;
  CHECK(attention_scores(Backend::cpu, args) >= scores);
  CHECK(attention_scores(Backend::cpu, args) < scores + scores / 10);
  CHECK(attention_scores(Backend::reference, args) == 0);
}

TEST_CASE("attention refuses other blocks and too little room for scores") {
  Dice dice(1);
  AttentionCase c{.q = Numbers::random(dice.rng, DType::fp32, {4, 1, 8}),
                  .k = Numbers::random(dice.rng, DType::fp32, {4, 1, 8}),
                  .v = Numbers::random(dice.rng, DType::fp32, {4, 1, 8}),
                  .y = Numbers(DType::fp32, {4, 1, 8}),
                  .choice = {AttentionMethod::flash, 48}};
  CHECK_THROWS_WITH(c.run(cpu_executor(1)),
                    "attention: block_keys is 48, expected 32, 64, 128 or 0");
  CHECK_THROWS_AS(attention(cpu_executor(1), {.q = c.q.view<3>(),
                                              .k = c.k.view<3>(),
                                              .v = c.v.view<3>(),
                                              .y = c.y.view<3>(),
                                              .choice = {AttentionMethod::naive, 0}}),
                  ShapeError);
}

TEST_CASE("attention survives scores that overflow exp") {
  Dice dice(5);
  compare_backends(AttentionCase{.q = Numbers::random(dice.rng, DType::fp32, {150, 2, 8}, 30),
                                 .k = Numbers::random(dice.rng, DType::fp32, {150, 2, 8}, 30),
                                 .v = Numbers::random(dice.rng, DType::fp32, {150, 2, 8}),
                                 .y = Numbers(DType::fp32, {150, 2, 8})},
                   1e-3);  // the scores, about 1e4, carry fp32's rounding into the exponential
}

TEST_CASE("attention_step equals the reference for unequal lengths") {
  for (unsigned seed = 0; seed < 20; ++seed) {
    Dice dice(seed);
    const std::int64_t batch = dice.between(1, 4);
    const std::int64_t capacity = dice.between(1, 300);
    const std::int64_t kv_heads = dice.between(1, 3);
    const std::int64_t heads = kv_heads * dice.between(1, 6);
    const std::int64_t head_dim = dice.coin() ? 16 * dice.between(1, 3) : dice.between(1, 40);
    CAPTURE(seed, batch, capacity, heads, kv_heads, head_dim);
    const DType cached = dice.dtype();
    AttentionStepCase c{
        .q = Numbers::random(dice.rng, dice.dtype(), {batch, heads, head_dim}, 1, 0, dice.gap()),
        .k = Numbers::random(dice.rng, cached, {batch, capacity, kv_heads, head_dim}, 1, 0,
                             dice.gap()),
        .v = Numbers::random(dice.rng, cached, {batch, capacity, kv_heads, head_dim}, 1, 0,
                             dice.gap()),
        .y = Numbers(dice.dtype(), {batch, heads, head_dim}),
        .scale = 0.3F};
    for (std::int64_t b = 0; b < batch; ++b) c.lengths.push_back(dice.between(1, capacity));
    compare_backends(c);
  }
}

TEST_CASE("attention rejects heads that do not divide and lengths beyond the cache") {
  AttentionCase heads{.q = Numbers(DType::fp32, {1, 3, 2}),
                      .k = Numbers(DType::fp32, {1, 2, 2}),
                      .v = Numbers(DType::fp32, {1, 2, 2}),
                      .y = Numbers(DType::fp32, {1, 3, 2})};
  CHECK_THROWS_WITH(heads.run(cpu_executor(1)),
                    "attention: q has 3 heads, expected a multiple of the 2 heads of k");
  AttentionStepCase step{.q = Numbers(DType::fp32, {1, 2, 2}),
                         .k = Numbers(DType::fp32, {1, 4, 2, 2}),
                         .v = Numbers(DType::fp32, {1, 4, 2, 2}),
                         .y = Numbers(DType::fp32, {1, 2, 2}),
                         .lengths = {5}};
  CHECK_THROWS_WITH(step.run(cpu_executor(1)),
                    "attention_step: lengths[0] is 5, expected 1 to capacity = 4");
}
