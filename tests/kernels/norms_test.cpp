// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/check.hpp"
#include "kernels/gated_rms_norm/gated_rms_norm.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "tests/kernels/numbers.hpp"

using namespace chunkstate;
using namespace chunkstate::test;

namespace {

using Outputs = std::vector<const Numbers*>;

struct NormCase {
  Numbers x, z, weight, y;
  bool gated = false;
  std::int64_t groups = 1;

  void run(const Executor& exec) {
    if (gated) {
      gated_rms_norm(exec, {.x = x.view<2>(),
                            .z = z.view<2>(),
                            .weight = weight.view<1>(),
                            .epsilon = 1e-5F,
                            .y = y.view<2>(),
                            .groups = groups});
    } else {
      rms_norm(exec,
               {.x = x.view<2>(), .weight = weight.view<1>(), .epsilon = 1e-5F, .y = y.view<2>()});
    }
  }
  Outputs outputs() const { return {&y}; }
};

struct AddNormCase {
  Numbers x, add, weight, sum, y;

  void run(const Executor& exec) {
    rms_norm(exec, {.x = x.view<2>(),
                    .weight = weight.view<1>(),
                    .epsilon = 1e-5F,
                    .y = y.view<2>(),
                    .add = add.view<2>(),
                    .sum = sum.view<2>()});
  }
  Outputs outputs() const { return {&sum, &y}; }
};

}  // namespace

TEST_CASE("The reference norms follow their formulas by hand") {
  NormCase plain{.x = Numbers::of({1, 2}, {3, 4}),
                 .weight = Numbers::of({2}, {1, 2}),
                 .y = Numbers(DType::fp32, {1, 2})};
  plain.run(reference_executor());  // root of the mean square: sqrt(12.5)
  CHECK(plain.y.values()[0] == Approx(3 / std::sqrt(12.5 + 1e-5)));
  CHECK(plain.y.values()[1] == Approx(8 / std::sqrt(12.5 + 1e-5)));
  NormCase gated{.x = Numbers::of({1, 2}, {1, 2}),
                 .z = Numbers::of({1, 2}, {30, 40}),  // silu(z) = z here
                 .weight = Numbers::of({2}, {1, 1}),
                 .y = Numbers(DType::fp32, {1, 2}),
                 .gated = true};
  gated.run(reference_executor());
  CHECK(gated.y.values()[0] == Approx(30 / std::sqrt((900.0 + 6400.0) / 2)));
  CHECK(gated.y.values()[1] == Approx(80 / std::sqrt((900.0 + 6400.0) / 2)));
  gated.groups = 2;  // each channel is its own mean
  gated.run(reference_executor());
  CHECK(gated.y.values() == std::vector<float>{1, 1});
  gated.groups = 3;
  CHECK_THROWS_AS(gated.run(reference_executor()), ShapeError);
}

TEST_CASE("The norms on the CPU equal the reference, in place as well") {
  for (unsigned seed = 0; seed < 40; ++seed) {
    Dice dice(seed);
    const std::int64_t tokens = dice.between(1, 9);
    const std::int64_t groups = dice.between(1, 4);
    const std::int64_t channels = groups * dice.between(1, 75);
    CAPTURE(seed, tokens, channels, groups);
    const NormCase c{
        .x = Numbers::random(dice.rng, dice.dtype(), {tokens, channels}, 2, 0, dice.gap()),
        .z = Numbers::random(dice.rng, dice.dtype(), {tokens, channels}, 3, 0, dice.gap()),
        .weight = Numbers::random(dice.rng, dice.dtype(), {channels}),
        .y = Numbers(dice.dtype(), {tokens, channels}, dice.gap()),
        .gated = dice.coin(),
        .groups = groups};
    compare_backends(c);
  }
  Dice dice(99);
  NormCase apart{.x = Numbers::random(dice.rng, DType::fp32, {3, 50}),
                 .z = Numbers::random(dice.rng, DType::fp32, {3, 50}),
                 .weight = Numbers::random(dice.rng, DType::fp32, {50}),
                 .y = Numbers(DType::fp32, {3, 50})};
  NormCase in_place = apart;
  apart.gated = true;
  apart.run(cpu_executor(1));
  gated_rms_norm(cpu_executor(1), {.x = in_place.x.view<2>(),
                                   .z = in_place.z.view<2>(),
                                   .weight = in_place.weight.view<1>(),
                                   .epsilon = 1e-5F,
                                   .y = in_place.x.view<2>()});
  CHECK((in_place.x.bytes() == apart.y.bytes()));
}

TEST_CASE("gated_rms_norm of parts that know all squares is that of the whole") {
  for (unsigned seed = 0; seed < 12; ++seed) {
    Dice dice(seed);
    const std::int64_t tokens = dice.between(1, 5);
    const std::int64_t channels = dice.between(3, 700);
    const std::int64_t cut = dice.between(1, channels - 1);
    Numbers x = Numbers::random(dice.rng, DType::fp32, {tokens, channels});
    Numbers z = Numbers::random(dice.rng, dice.dtype(), {tokens, channels});
    Numbers weight = Numbers::random(dice.rng, DType::fp32, {channels});
    Numbers whole(DType::fp32, {tokens, channels}), parts = whole;
    for (const Executor& exec : {reference_executor(), cpu_executor(2)}) {
      CAPTURE(seed, tokens, channels, cut, name_of(exec.backend));
      gated_rms_norm(exec, {x.view<2>(), z.view<2>(), weight.view<1>(), 1e-5F, whole.view<2>()});
      std::vector<float> squares(static_cast<std::size_t>(tokens));
      std::vector<float> part(squares.size());
      const auto args = [&](std::int64_t begin, std::int64_t end, std::vector<float>& sums) {
        return GatedRmsNormArgs{
            x.view<2>().slice(1, begin, end),      z.view<2>().slice(1, begin, end),
            weight.view<1>().slice(0, begin, end), 1e-5F,
            parts.view<2>().slice(1, begin, end),  1,
            View<float, 1>(sums.data(), {tokens}), channels};
      };
      gated_squares(exec, args(0, cut, squares));
      gated_squares(exec, args(cut, channels, part));
      for (std::size_t t = 0; t < squares.size(); ++t) squares[t] += part[t];
      gated_rms_norm(exec, args(0, cut, squares));
      gated_rms_norm(exec, args(cut, channels, squares));
      const auto found = parts.values(), expected = whole.values();
      for (std::size_t i = 0; i < found.size(); ++i) {
        CHECK(found[i] == Approx(expected[i]).epsilon(1e-5).margin(1e-7));
      }
      auto too_few = args(0, cut, squares);
      too_few.squares_channels = cut - 1;
      CHECK_THROWS_AS(gated_rms_norm(exec, too_few), ShapeError);
    }
  }
}

TEST_CASE("rms_norm with a sum normalises what it stores, in place of x as well") {
  AddNormCase by_hand{.x = Numbers::of({1, 2}, {1, 256}, DType::bf16),
                      .add = Numbers::of({1, 2}, {2, 1}),  // 257 is no bf16 number: 256
                      .weight = Numbers::of({2}, {1, 1}),
                      .sum = Numbers(DType::bf16, {1, 2}),
                      .y = Numbers(DType::fp32, {1, 2})};
  by_hand.run(reference_executor());
  CHECK(by_hand.sum.values() == std::vector<float>{3, 256});
  CHECK(by_hand.y.values()[0] == Approx(3 / std::sqrt((9.0 + 65536.0) / 2)));
  for (unsigned seed = 0; seed < 20; ++seed) {
    Dice dice(seed);
    const std::int64_t tokens = dice.between(1, 9);
    const std::int64_t channels = dice.between(1, 300);
    CAPTURE(seed, tokens, channels);
    AddNormCase c{
        .x = Numbers::random(dice.rng, dice.dtype(), {tokens, channels}, 2, 0, dice.gap()),
        .add = Numbers::random(dice.rng, dice.dtype(), {tokens, channels}, 3, 0, dice.gap()),
        .weight = Numbers::random(dice.rng, dice.dtype(), {channels})};
    c.sum = Numbers(c.x.dtype(), {tokens, channels});
    c.y = Numbers(dice.dtype(), {tokens, channels}, dice.gap());
    compare_backends(c);
    AddNormCase in_place = c;
    c.run(cpu_executor(1));
    rms_norm(cpu_executor(1), {.x = in_place.x.view<2>(),
                               .weight = in_place.weight.view<1>(),
                               .epsilon = 1e-5F,
                               .y = in_place.y.view<2>(),
                               .add = in_place.add.view<2>(),
                               .sum = in_place.x.view<2>()});
    CHECK((in_place.y.bytes() == c.y.bytes()));
    CHECK(in_place.x.values() == c.sum.values());
  }
}
