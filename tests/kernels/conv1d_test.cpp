// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv1d/conv1d.hpp"

#include "tests/kernels/numbers.hpp"

using namespace chunkstate;
using namespace chunkstate::test;

namespace {

using Outputs = std::vector<const Numbers*>;

struct ConvCase {
  Numbers x, weight, bias, window, y;
  bool with_bias = true;
  bool with_window = true;

  void run(const Executor& exec) {
    conv1d(exec, {.x = x.view<2>(),
                  .weight = weight.view<2>(),
                  .bias = with_bias ? bias.view<1>() : AnyView<1>(),
                  .window = with_window ? window.view<2>() : AnyView<2>(),
                  .y = y.view<2>()});
  }
  Outputs outputs() const { return {&y, &window}; }
};

struct ConvStepCase {
  Numbers x, weight, bias, window, y;

  void run(const Executor& exec) {
    conv1d_step(exec, {.x = x.view<2>(),
                       .weight = weight.view<2>(),
                       .bias = bias.view<1>(),
                       .window = window.view<3>(),
                       .y = y.view<2>()});
  }
  Outputs outputs() const { return {&y, &window}; }
};

}  // namespace

TEST_CASE("The reference convolution reads its window and leaves the newest inputs in it") {
  // y = silu(x_{t-2} + 10 x_{t-1} + 100 x_t), large enough that silu(v) = v.
  ConvCase c{.x = Numbers::of({2, 1}, {3, 4}),
             .weight = Numbers::of({1, 3}, {1, 10, 100}),
             .window = Numbers::of({2, 1}, {1, 2}),
             .y = Numbers(DType::fp32, {2, 1}),
             .with_bias = false};
  c.run(reference_executor());
  CHECK(c.y.values() == std::vector<float>{321, 432});
  CHECK(c.window.values() == std::vector<float>{3, 4});
}

TEST_CASE("A convolution of fewer tokens than taps keeps the rest of its window") {
  ConvCase c{.x = Numbers::of({1, 1}, {4}),
             .weight = Numbers::of({1, 4}, {1, 10, 100, 1000}),
             .window = Numbers::of({3, 1}, {1, 2, 3}),
             .y = Numbers(DType::fp32, {1, 1}),
             .with_bias = false};
  for (const Executor& exec : {reference_executor(), cpu_executor(2)}) {
    ConvCase run = c;
    run.run(exec);
    CHECK(run.y.values() == std::vector<float>{4321});
    CHECK(run.window.values() == std::vector<float>{2, 3, 4});
  }
}

TEST_CASE("conv1d on the CPU equals the reference") {
  for (unsigned seed = 0; seed < 40; ++seed) {
    Dice dice(seed);
    const std::int64_t tokens = dice.coin() ? dice.between(1, 5) : dice.between(100, 300);
    const std::int64_t channels = dice.coin() ? dice.between(1, 40) : dice.between(500, 600);
    const std::int64_t taps = dice.between(1, 5);
    const DType in = dice.dtype();
    CAPTURE(seed, tokens, channels, taps, name_of(in));
    compare_backends(
        ConvCase{.x = Numbers::random(dice.rng, in, {tokens, channels}, 1, 0, dice.gap()),
                 .weight = Numbers::random(dice.rng, dice.dtype(), {channels, taps}),
                 .bias = Numbers::random(dice.rng, dice.dtype(), {channels}),
                 .window = Numbers::random(dice.rng, dice.dtype(), {taps - 1, channels}),
                 .y = Numbers(dice.dtype(), {tokens, channels}, dice.gap()),
                 .with_bias = dice.coin(),
                 .with_window = dice.coin()});
  }
}

TEST_CASE("conv1d with more taps than fit its ring still equals the reference") {
  Dice dice(3);
  compare_backends(ConvCase{.x = Numbers::random(dice.rng, DType::fp32, {40, 3}),
                            .weight = Numbers::random(dice.rng, DType::fp32, {3, 20}),
                            .bias = Numbers::random(dice.rng, DType::fp32, {3}),
                            .window = Numbers::random(dice.rng, DType::fp32, {19, 3}),
                            .y = Numbers(DType::fp32, {40, 3})});
}

TEST_CASE("A convolution cut anywhere continues exactly") {
  Dice dice(11);
  const std::int64_t tokens = 9;
  const std::int64_t channels = 5;
  for (const DType dtype : {DType::fp32, DType::bf16, DType::fp16}) {
    for (const Executor& exec : {reference_executor(), cpu_executor(2)}) {
      const ConvCase start{.x = Numbers::random(dice.rng, dtype, {tokens, channels}),
                           .weight = Numbers::random(dice.rng, dtype, {channels, 4}),
                           .bias = Numbers::random(dice.rng, dtype, {channels}),
                           .window = Numbers::random(dice.rng, dtype, {3, channels}),
                           .y = Numbers(dtype, {tokens, channels})};
      ConvCase whole = start;
      whole.run(exec);
      for (std::int64_t cut = 0; cut <= tokens; ++cut) {
        ConvCase parts = start;
        for (const auto& [begin, end] : {std::pair{std::int64_t{0}, cut}, {cut, tokens}}) {
          conv1d(exec, {.x = parts.x.view<2>().slice(0, begin, end),
                        .weight = parts.weight.view<2>(),
                        .bias = parts.bias.view<1>(),
                        .window = parts.window.view<2>(),
                        .y = parts.y.view<2>().slice(0, begin, end)});
        }
        CAPTURE(cut, name_of(dtype), name_of(exec.backend));
        CHECK((parts.y.bytes() == whole.y.bytes()));
        CHECK((parts.window.bytes() == whole.window.bytes()));
      }
    }
  }
}

TEST_CASE("conv1d_step equals the reference and conv1d of one token") {
  for (unsigned seed = 0; seed < 12; ++seed) {
    Dice dice(seed);
    const std::int64_t batch = dice.between(1, 4);
    const std::int64_t channels = dice.coin() ? dice.between(1, 40) : dice.between(5000, 5100);
    const std::int64_t taps = dice.between(2, 4);
    const DType dtype = dice.dtype();
    CAPTURE(seed, batch, channels, taps, name_of(dtype));
    const ConvStepCase step{
        .x = Numbers::random(dice.rng, dtype, {batch, channels}, 1, 0, dice.gap()),
        .weight = Numbers::random(dice.rng, dice.dtype(), {channels, taps}),
        .bias = Numbers::random(dice.rng, dice.dtype(), {channels}),
        .window = Numbers::random(dice.rng, dtype, {batch, taps - 1, channels}, 1, 0, dice.gap()),
        .y = Numbers(dice.dtype(), {batch, channels})};
    compare_backends(step);
    ConvStepCase stepped = step;
    ConvStepCase scanned = step;
    stepped.run(cpu_executor(2));
    for (std::int64_t b = 0; b < batch; ++b) {
      conv1d(cpu_executor(2), {.x = scanned.x.view<2>().slice(0, b, b + 1),
                               .weight = scanned.weight.view<2>(),
                               .bias = scanned.bias.view<1>(),
                               .window = scanned.window.view<3>()[b],
                               .y = scanned.y.view<2>().slice(0, b, b + 1)});
    }
    CHECK((stepped.y.bytes() == scanned.y.bytes()));
    CHECK((stepped.window.bytes() == scanned.window.bytes()));
  }
}
