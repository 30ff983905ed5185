// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/check.hpp"
#include "kernels/base/trace.hpp"
#include "tests/kernels/selective_scan_case.hpp"

using namespace chunkstate;
using namespace chunkstate::test;

namespace {

/// One channel with two state elements that keep 1/2 and 1/4 per token, all inputs 1, step size 1.
SelectiveScanCase halving_and_quartering(std::int64_t tokens) {
  const auto ones = [&](std::int64_t columns) {
    return Numbers::of({1, tokens, columns}, std::vector<float>(tokens * columns, 1.0F));
  };
  SelectiveScanCase c;
  c.variant = find_selective_scan_variant("fused_block");
  c.with = {.softplus = false, .bias = false, .skip = false, .gate = false, .state = true};
  c.x = ones(1);
  c.dt = ones(1);
  c.B = ones(2);
  c.C = ones(2);
  c.A = Numbers::of({1, 2}, {-std::log(2.0F), -std::log(4.0F)});
  c.y = Numbers(DType::fp32, {1, tokens, 1});
  c.state = Numbers(DType::fp32, {1, 1, 2});
  return c;
}

void check_by_hand(const SelectiveScanCase& prototype, const std::vector<float>& y,
                   const std::vector<float>& state) {
  for (const SelectiveScanVariant& variant : selective_scan_variants()) {
    for (const Executor& exec : {reference_executor(), cpu_executor(2)}) {
      SelectiveScanCase c = prototype;
      c.variant = &variant;
      c.run(exec);
      CAPTURE(variant.name, name_of(exec.backend));
      CHECK(relative_error(y, c.y.values()) < 1e-6);
      CHECK(relative_error(state, c.state.values()) < 1e-6);
    }
  }
}

SelectiveScanShape random_shape(Dice& dice) {
  return {.batch = dice.between(1, 3),
          .tokens = dice.coin() ? dice.between(1, 20) : dice.between(60, 200),
          .channels = dice.coin() ? dice.between(1, 20) : dice.between(60, 150),
          .state_dim = dice.coin() ? 16 : dice.between(1, 40)};
}

}  // namespace

TEST_CASE("Every selective scan forgets each element of a state at its own rate, by hand") {
  // h = (1, 1), (3/2, 5/4), (7/4, 21/16); y is their sum.
  check_by_hand(halving_and_quartering(3), {2, 2.75F, 3.0625F}, {1.75F, 1.3125F});
  SelectiveScanCase from_state = halving_and_quartering(1);
  from_state.state = Numbers::of({1, 1, 2}, {4, 8});
  check_by_hand(from_state, {6}, {3, 3});
}

TEST_CASE("Step size, skip and gate of a selective scan, by hand") {
  SelectiveScanCase c = halving_and_quartering(1);
  c.dt = Numbers::of({1, 1, 1}, {-1});
  c.dt_bias = Numbers::of({1}, {3});
  c.D = Numbers::of({1}, {10});
  c.z = Numbers::of({1, 1, 1}, {50});  // silu(z) = z here
  c.x = Numbers::of({1, 1, 1}, {2});
  c.with = {.softplus = false, .bias = true, .skip = true, .gate = true, .state = true};
  check_by_hand(c, {(2 * 2 * 2 + 20) * 50}, {4, 4});  // step size 2
  c.with.softplus = true;
  c.dt_bias = Numbers::of({1}, {1});  // softplus(0) = log 2
  const float step = std::log(2.0F);
  check_by_hand(c, {(2 * step * 2 + 20) * 50}, {step * 2, step * 2});
  c.dt_bias = Numbers::of({1}, {26});  // beyond 20 softplus is the identity
  check_by_hand(c, {(2 * 25 * 2 + 20) * 50}, {50, 50});
}

TEST_CASE("Every selective scan equals the definition at random shapes") {
  for (const SelectiveScanVariant& variant : selective_scan_variants()) {
    for (unsigned seed = 0; seed < 30; ++seed) {
      Dice dice(seed);
      const SelectiveScanShape shape = random_shape(dice);
      const DType dtype = dice.dtype();
      SelectiveScanCase c = random_selective_scan(variant, dice, shape, dtype);
      c.with = {.softplus = true,
                .bias = dice.coin(),
                .skip = dice.coin(),
                .gate = dice.coin(),
                .state = dice.coin()};
      if (dice.between(0, 3) == 0) use_plain_steps(c, dice);
      c.chunk_size = dice.between(1, 80);
      CAPTURE(variant.name, seed, shape.batch, shape.tokens, shape.channels, shape.state_dim,
              name_of(dtype), c.with.softplus, c.with.bias, c.with.skip, c.with.gate, c.with.state,
              c.chunk_size);
      compare_backends(c, variant.tolerance);
    }
  }
}

TEST_CASE("A selective scan cut at any position continues exactly") {
  const SelectiveScanShape shape{.batch = 2, .tokens = 33, .channels = 5, .state_dim = 16};
  for (const SelectiveScanVariant& variant : selective_scan_variants()) {
    Dice dice(31);
    SelectiveScanCase start = random_selective_scan(variant, dice, shape, DType::fp32);
    start.chunk_size = 8;
    for (const Executor& exec : {reference_executor(), cpu_executor(2)}) {
      SelectiveScanCase whole = start;
      whole.run(exec);
      for (std::int64_t cut = 0; cut <= shape.tokens; ++cut) {
        SelectiveScanCase parts = start;
        parts.run_part(exec, 0, cut);
        parts.run_part(exec, cut, shape.tokens);
        CAPTURE(variant.name, name_of(exec.backend), cut);
        CHECK(relative_error(whole.y, parts.y) <= variant.tolerance);
        CHECK(relative_error(whole.state, parts.state) <= variant.tolerance);
      }
    }
  }
}

TEST_CASE("Decays that underflow leave a selective scan finite") {
  const SelectiveScanShape shape{.batch = 1, .tokens = 300, .channels = 3, .state_dim = 4};
  for (const SelectiveScanVariant& variant : selective_scan_variants()) {
    Dice dice(32);
    SelectiveScanCase c = random_selective_scan(variant, dice, shape, DType::fp32);
    c.A = Numbers::of({3, 4}, {-1e6F, -1e4F, -50, -1, -1e-6F, -2, -3, -4, -1e30F, -1, -0.5F, -90});
    c.dt_bias = Numbers::of({3}, {5, 0, -8});
    c.chunk_size = 100;
    CAPTURE(variant.name);
    compare_backends(c, variant.tolerance);
  }
}

TEST_CASE("A selective scan makes as many sweeps as its variant's row says") {
  const SelectiveScanShape shape{.batch = 2, .tokens = 20, .channels = 3, .state_dim = 4};
  for (const SelectiveScanVariant& variant : selective_scan_variants()) {
    Dice dice(33);
    SelectiveScanCase c = random_selective_scan(variant, dice, shape, DType::fp32);
    for (const bool all : {true, false}) {
      c.with = {.softplus = all, .bias = all, .skip = all, .gate = all, .state = all};
      c.chunk_size = all ? 8 : 20;
      start_trace(false);
      c.run(cpu_executor(1));
      CAPTURE(variant.name, all);
      CHECK(static_cast<std::int64_t>(stop_trace().spans.size()) == variant.launches(c.args()));
    }
  }
}

TEST_CASE("The table of selective scans has unique names that can be found") {
  for (const SelectiveScanVariant& variant : selective_scan_variants()) {
    CHECK(find_selective_scan_variant(variant.name) == &variant);
    CHECK(!variant.summary.empty());
  }
  CHECK(find_selective_scan_variant("default") == nullptr);
}

TEST_CASE("selective_scan names what is wrong with its arguments, and takes no tokens at all") {
  Dice dice(34);
  const SelectiveScanShape shape{.batch = 2, .tokens = 4, .channels = 3, .state_dim = 5};
  const SelectiveScanVariant& variant = *find_selective_scan_variant("fused");
  const SelectiveScanCase good = random_selective_scan(variant, dice, shape, DType::fp32);
  SelectiveScanCase bad = good;
  bad.C = Numbers(DType::fp32, {2, 4, 6});
  CHECK_THROWS_WITH(bad.run(cpu_executor(1)),
                    "selective_scan: C has shape [2, 4, 6], expected [2, 4, 5] (batch x tokens x "
                    "state_dim)");
  bad = good;
  bad.chunk_size = 0;
  CHECK_THROWS_WITH(bad.run(cpu_executor(1)),
                    "selective_scan: chunk_size is 0, expected at least 1");
  bad = good;
  bad.state = Numbers(DType::fp32, {1, 3, 5});
  CHECK_THROWS_AS(bad.run(cpu_executor(1)), ShapeError);
  SelectiveScanCase none = good;
  none.run_part(cpu_executor(2), 2, 2);
  CHECK((none.state.bytes() == good.state.bytes()));
}
