// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "kernels/base/check.hpp"
#include "kernels/base/dot.hpp"
#include "kernels/embedding/embedding.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/linear/tile_linear.hpp"
#include "kernels/rope/rope.hpp"
#include "kernels/silu_mul/silu_mul.hpp"
#include "tests/kernels/numbers.hpp"

using namespace chunkstate;
using namespace chunkstate::test;

namespace {

using Outputs = std::vector<const Numbers*>;

struct LinearCase {
  Numbers x, weight, bias, y;
  bool with_bias = false;
  bool accumulate = false;
  float scale = 1.0F;

  void run(const Executor& exec) {
    linear(exec, {.x = x.view<2>(),
                  .weight = weight.view<2>(),
                  .bias = with_bias ? bias.view<1>() : AnyView<1>(),
                  .y = y.view<2>(),
                  .accumulate = accumulate,
                  .scale = scale});
  }
  Outputs outputs() const { return {&y}; }
};

struct SiluMulCase {
  Numbers gate, up, y;

  void run(const Executor& exec) {
    silu_mul(exec, {.gate = gate.view<2>(), .up = up.view<2>(), .y = y.view<2>()});
  }
  Outputs outputs() const { return {&y}; }
};

struct RopeCase {
  Numbers x;
  std::vector<std::int64_t> positions;
  std::vector<float> inverse_frequency;

  void run(const Executor& exec) {
    rope(exec, {.x = x.view<3>(),
                .positions = {positions.data(), {static_cast<std::int64_t>(positions.size())}},
                .inverse_frequency = {inverse_frequency.data(),
                                      {static_cast<std::int64_t>(inverse_frequency.size())}}});
  }
  Outputs outputs() const { return {&x}; }
};

}  // namespace

TEST_CASE("The reference linear multiplies, adds the bias and accumulates") {
  LinearCase c{.x = Numbers::of({1, 2}, {1, 2}),
               .weight = Numbers::of({3, 2}, {1, 0, 0, 1, 3, -1}, DType::bf16),
               .bias = Numbers::of({3}, {10, 20, 30}),
               .y = Numbers::of({1, 3}, {100, 100, 100}),
               .with_bias = true};
  LinearCase accumulated = c;
  accumulated.accumulate = true;
  c.run(reference_executor());
  CHECK(c.y.values() == std::vector<float>{11, 22, 31});
  accumulated.run(reference_executor());
  CHECK(accumulated.y.values() == std::vector<float>{111, 122, 131});
  accumulated.scale = 0.5F;
  accumulated.run(reference_executor());
  CHECK(accumulated.y.values() == std::vector<float>{116.5, 133, 146.5});
}

TEST_CASE("linear on the CPU equals the reference for every storage type and number of tokens") {
  for (unsigned seed = 0; seed < 60; ++seed) {
    Dice dice(seed);
    const std::int64_t tokens = dice.coin() ? dice.between(1, 20) : dice.between(17, 70);
    const std::int64_t in_features = dice.coin() ? dice.between(1, 100) : dice.between(500, 1100);
    const std::int64_t out_features = dice.between(1, 150);
    const DType dtypes[] = {dice.dtype(), dice.dtype(), dice.dtype(), dice.dtype()};
    CAPTURE(seed, tokens, in_features, out_features, name_of(dtypes[0]), name_of(dtypes[1]));
    compare_backends(LinearCase{
        .x = Numbers::random(dice.rng, dtypes[0], {tokens, in_features}, 1, 0, dice.gap()),
        .weight =
            Numbers::random(dice.rng, dtypes[1], {out_features, in_features}, 1, 0, dice.gap()),
        .bias = Numbers::random(dice.rng, dtypes[2], {out_features}, 10),
        .y = Numbers::random(dice.rng, dtypes[3], {tokens, out_features}, 10, 0, dice.gap()),
        .with_bias = dice.coin(),
        .accumulate = dice.coin(),
        .scale = dice.coin() ? 1.0F : 0.22F});
  }
}

TEST_CASE("tile_linear equals the reference, and itself however it is cut") {
  if (!cpu::tile_linear_applies({.x = Numbers(DType::bf16, {1, 1}).view<2>(),
                                 .weight = Numbers(DType::bf16, {1, 1}).view<2>()})) {
    return;  // no bf16 products on this machine, or masked
  }
  for (unsigned seed = 0; seed < 40; ++seed) {
    Dice dice(seed);
    const std::int64_t tokens = dice.coin() ? dice.between(1, 70) : dice.between(90, 300);
    std::int64_t in_features = dice.coin() ? dice.between(1, 100) : dice.between(300, 900);
    if (seed % 2 == 0) in_features = (in_features + 31) / 32 * 32;  // whole lines, as models have
    const std::int64_t out_features = dice.coin() ? dice.between(1, 100) : dice.between(150, 400);
    const DType y_dtype = dice.coin() ? DType::fp32 : DType::bf16;
    const DType bias_dtype = dice.coin() ? DType::fp32 : DType::bf16;
    CAPTURE(seed, tokens, in_features, out_features, name_of(y_dtype));
    LinearCase c{
        .x = Numbers::random(dice.rng, DType::bf16, {tokens, in_features}, 1, 0, dice.gap()),
        .weight =
            Numbers::random(dice.rng, DType::bf16, {out_features, in_features}, 1, 0, dice.gap()),
        .bias = Numbers::random(dice.rng, bias_dtype, {out_features}, 10),
        .y = Numbers::random(dice.rng, y_dtype, {tokens, out_features}, 10, 0, dice.gap()),
        .with_bias = dice.coin(),
        .accumulate = dice.coin(),
        .scale = dice.coin() ? 1.0F : 0.22F};
    const auto run = [](LinearCase& copy, int threads, const cpu::TileBlocking& blocking) {
      const LinearArgs args{.x = copy.x.view<2>(),
                            .weight = copy.weight.view<2>(),
                            .bias = copy.with_bias ? copy.bias.view<1>() : AnyView<1>(),
                            .y = copy.y.view<2>(),
                            .accumulate = copy.accumulate,
                            .scale = copy.scale};
      cpu::tile_linear(cpu_executor(threads), {&args, 1}, blocking);
    };
    LinearCase expected = c, whole = c, cut = c;
    expected.run(reference_executor());
    cpu::TileBlocking plain;
    plain.turned = dice.coin();
    run(whole, 1, plain);
    CHECK(relative_error(expected.y, whole.y) <= 1e-5 + storage_step(y_dtype));
    const cpu::TileBlocking blocking{32 * dice.between(1, 4), 32 * dice.between(1, 4),
                                     32 * dice.between(1, 4), dice.coin()};
    CAPTURE(blocking.tokens, blocking.outputs, blocking.depth, *plain.turned, *blocking.turned);
    run(cut, static_cast<int>(dice.between(1, 3)), blocking);
    CHECK((whole.y.bytes() == cut.y.bytes()));
  }
}

TEST_CASE("A result that is stored past the caches is that of its parts, which are not") {
  constexpr std::int64_t tokens = 96, in_features = 40, out_features = 32 * 1000;
  std::mt19937 rng(5);
  Numbers x = Numbers::random(rng, DType::bf16, {tokens, in_features});
  Numbers weight = Numbers::random(rng, DType::bf16, {out_features, in_features});
  if (!cpu::tile_linear_applies({.x = x.view<2>(), .weight = weight.view<2>()})) return;
  constexpr std::align_val_t line{64};
  const auto new_lines = [&] {
    const auto free = [](std::byte* memory) { ::operator delete[](memory, line); };
    return std::unique_ptr<std::byte[], decltype(free)>(
        new (line) std::byte[tokens * out_features * 2]{}, free);
  };
  const auto whole = new_lines(), parts = new_lines();
  const AnyView<2> y{whole.get(), DType::bf16, {tokens, out_features}};
  const AnyView<2> y_parts{parts.get(), DType::bf16, {tokens, out_features}};
  linear(cpu_executor(2), {.x = x.view<2>(), .weight = weight.view<2>(), .y = y, .scale = 0.5F});
  for (std::int64_t t = 0; t < tokens; t += 32) {
    linear(cpu_executor(2), {.x = x.view<2>().slice(0, t, t + 32),
                             .weight = weight.view<2>(),
                             .y = y_parts.slice(0, t, t + 32),
                             .scale = 0.5F});
  }
  CHECK(std::memcmp(whole.get(), parts.get(), tokens * out_features * 2) == 0);
  CHECK(std::count(parts.get(), parts.get() + tokens * out_features * 2, std::byte{0}) <
        tokens * out_features / 4);
}

TEST_CASE("A row's dot product does not depend on the rows beside it, bit by bit") {
  for (unsigned seed = 0; seed < 12; ++seed) {
    Dice dice(seed);
    const std::int64_t rows = dice.between(1, 40);
    const std::int64_t depth = dice.between(1, 200);
    const std::int64_t tokens = dice.between(1, most_dot_tokens);
    const DType dtype = has_bf16_dot() && seed % 2 == 0 ? DType::bf16 : DType::fp32;
    CAPTURE(seed, rows, depth, tokens, name_of(dtype));
    Numbers weight = Numbers::random(dice.rng, DType::bf16, {rows, depth});
    Numbers x = Numbers::random(dice.rng, dtype, {tokens, depth});
    const auto sums_of = [&](std::int64_t begin, std::int64_t count, float* sums) {
      const std::byte* const from = x.view<2>().data;
      if (dtype == DType::bf16) {
        dot_rows(weight.view<2>(), begin, count, reinterpret_cast<const bf16*>(from), depth, tokens,
                 sums, rows);
      } else {
        dot_rows(weight.view<2>(), begin, count, reinterpret_cast<const float*>(from), depth,
                 tokens, sums, rows);
      }
    };
    std::vector<float> together(static_cast<std::size_t>(tokens * rows)), alone = together;
    sums_of(0, rows, together.data());
    for (std::int64_t r = 0; r < rows; ++r) sums_of(r, 1, alone.data() + r);
    CHECK((together == alone));
  }
}

TEST_CASE("linear takes more tokens than it packs at once, and none") {
  Dice dice(1);
  compare_backends(LinearCase{.x = Numbers::random(dice.rng, DType::fp32, {1100, 9}),
                              .weight = Numbers::random(dice.rng, DType::bf16, {5, 9}),
                              .y = Numbers(DType::fp32, {1100, 5})});
  LinearCase none{.x = Numbers(DType::fp32, {0, 9}),
                  .weight = Numbers::random(dice.rng, DType::bf16, {5, 9}),
                  .y = Numbers(DType::fp32, {0, 5})};
  CHECK_NOTHROW(none.run(cpu_executor(2)));
}

TEST_CASE("linear_group gives each of its products what linear gives") {
  for (unsigned seed = 0; seed < 24; ++seed) {
    Dice dice(seed);
    const std::int64_t tokens = dice.coin() ? dice.between(1, 20) : dice.between(17, 70);
    const std::int64_t in_features = dice.between(1, 200);
    Numbers x = Numbers::random(dice.rng, dice.coin() ? DType::bf16 : dice.dtype(),
                                {tokens, in_features}, 1, 0, dice.gap());
    CAPTURE(seed, tokens, in_features, name_of(x.dtype()));
    std::vector<Numbers> weights, together, apart;
    const auto count = static_cast<std::size_t>(dice.between(1, 3));
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t out_features = dice.between(1, 150);
      weights.push_back(Numbers::random(dice.rng, dice.coin() ? DType::bf16 : dice.dtype(),
                                        {out_features, in_features}));
      together.push_back(Numbers(dice.dtype(), {tokens, out_features}, dice.gap()));
    }
    apart = together;
    std::vector<LinearArgs> group;
    for (std::size_t i = 0; i < count; ++i) {
      group.push_back(
          {.x = x.view<2>(), .weight = weights[i].view<2>(), .y = together[i].view<2>()});
      linear(cpu_executor(1),
             {.x = x.view<2>(), .weight = weights[i].view<2>(), .y = apart[i].view<2>()});
    }
    linear_group(cpu_executor(2), group);
    for (std::size_t i = 0; i < count; ++i) CHECK((apart[i].bytes() == together[i].bytes()));
  }
}

TEST_CASE("linear rejects a weight of another width") {
  LinearCase c{.x = Numbers(DType::fp32, {2, 4}),
               .weight = Numbers(DType::fp32, {3, 5}),
               .y = Numbers(DType::fp32, {2, 3})};
  CHECK_THROWS_WITH(c.run(cpu_executor(1)),
                    "linear: x has shape [2, 4], expected [2, 5] (tokens x in_features)");
}

TEST_CASE("silu_mul on the CPU equals the reference, and the reference its formula") {
  SiluMulCase by_hand{.gate = Numbers::of({1, 2}, {0, 50}),
                      .up = Numbers::of({1, 2}, {7, 2}),
                      .y = Numbers(DType::fp32, {1, 2})};
  by_hand.run(reference_executor());
  CHECK(by_hand.y.values() == std::vector<float>{0, 100});
  for (unsigned seed = 0; seed < 20; ++seed) {
    Dice dice(seed);
    const std::int64_t tokens = dice.between(1, 9);
    const std::int64_t channels = dice.coin() ? dice.between(1, 300) : dice.between(2000, 4200);
    CAPTURE(seed, tokens, channels);
    compare_backends(SiluMulCase{
        .gate = Numbers::random(dice.rng, dice.dtype(), {tokens, channels}, 4, 0, dice.gap()),
        .up = Numbers::random(dice.rng, dice.dtype(), {tokens, channels}, 1, 0, dice.gap()),
        .y = Numbers(dice.dtype(), {tokens, channels}, dice.gap())});
  }
}

TEST_CASE("The reference rope turns pairs half a rotation apart and leaves the rest") {
  const float quarter = std::acos(0.0F);
  RopeCase c{.x = Numbers::of({1, 1, 5}, {1, 2, 3, 4, 5}),
             .positions = {1},
             .inverse_frequency = {quarter, 0.0F}};
  c.run(reference_executor());  // (1, 3) by 90 degrees, (2, 4) not at all
  const std::vector<float> expected{-3, 2, 1, 4, 5};
  CHECK(relative_error(expected, c.x.values()) < 1e-6);
}

TEST_CASE("rope on the CPU equals the reference") {
  for (unsigned seed = 0; seed < 20; ++seed) {
    Dice dice(seed);
    const std::int64_t tokens = dice.between(1, 6);
    const std::int64_t heads = dice.between(1, 4);
    const std::int64_t pairs = dice.between(0, 20);
    const std::int64_t head_dim = 2 * pairs + dice.between(1, 9);
    CAPTURE(seed, tokens, heads, pairs, head_dim);
    RopeCase c{
        .x = Numbers::random(dice.rng, dice.dtype(), {tokens, heads, head_dim}, 1, 0, dice.gap())};
    for (std::int64_t t = 0; t < tokens; ++t) c.positions.push_back(dice.between(0, 100000));
    for (std::int64_t i = 0; i < pairs; ++i) {
      c.inverse_frequency.push_back(
          static_cast<float>(std::pow(1e4, -static_cast<double>(i) / pairs)));
    }
    compare_backends(c);
  }
}

TEST_CASE("embedding copies and converts the rows it is asked for") {
  Numbers table = Numbers::of({3, 2}, {1, 2, 3, 4, 5, 6}, DType::bf16);
  Numbers y(DType::fp32, {2, 2});
  const std::vector<std::int32_t> tokens{2, 0};
  for (const Executor& exec : {reference_executor(), cpu_executor(1)}) {
    embedding(exec, {.tokens = {tokens.data(), {2}}, .table = table.view<2>(), .y = y.view<2>()});
    CHECK(y.values() == std::vector<float>{5, 6, 1, 2});
    embedding(exec, {{tokens.data(), {2}}, table.view<2>(), y.view<2>(), 12.0F});
    CHECK(y.values() == std::vector<float>{60, 72, 12, 24});
  }
}

TEST_CASE("An operator that this build lacks on a backend says so") {
  if constexpr (!CHUNKSTATE_HAS_CUDA) {
    SiluMulCase c{.gate = Numbers(DType::fp32, {1, 2}),
                  .up = Numbers(DType::fp32, {1, 2}),
                  .y = Numbers(DType::fp32, {1, 2})};
    CHECK_THROWS_AS(c.run({.backend = Backend::cuda}), BackendError);
  }
}
