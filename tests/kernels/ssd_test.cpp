// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/bf16_tiles.hpp"
#include "kernels/base/check.hpp"
#include "kernels/ssd/cost.hpp"
#include "tests/kernels/ssd_case.hpp"

using namespace chunkstate;
using namespace chunkstate::test;

namespace {

/// One head, everything scalar: delta = 1 (dt beyond the limit), decay 1/2, x = B = C = 1, D = 0.
SsdCase halving(const char* name, std::int64_t tokens, std::int64_t chunk_size,
                std::int64_t lookback = 0) {
  const auto ones = [&] { return Numbers::of({tokens, 1, 1}, std::vector<float>(tokens, 1.0F)); };
  SsdCase c;
  c.variant = &variant_named(name);
  c.options.chunk_size = chunk_size;
  c.options.lookback = lookback;
  c.options.dt_max = 1.0F;
  c.x = ones();
  c.dt = Numbers::of({tokens, 1}, std::vector<float>(tokens, 30.0F));
  c.B = ones();
  c.C = ones();
  c.A = Numbers::of({1}, {-std::log(2.0F)});
  c.dt_bias = Numbers::of({1}, {0.0F});
  c.D = Numbers::of({1}, {0.0F});
  c.y = Numbers(DType::fp32, {tokens, 1, 1});
  c.state = Numbers(DType::fp32, {state_slots(*c.variant, lookback), 1, 1, 1});
  return c;
}

void check_by_hand(SsdCase c, const std::vector<float>& y, const std::vector<float>& state) {
  for (const Executor& exec : {reference_executor(), cpu_executor(2)}) {
    SsdCase run = c;
    run.run(exec);
    CAPTURE(name_of(exec.backend), c.variant->name);
    CHECK(relative_error(y, run.y.values()) < 1e-6);
    CHECK(relative_error(state, run.state.values()) < 1e-6);
  }
}

SsdShape random_shape(Dice& dice) {
  SsdShape shape;
  shape.groups = dice.between(1, 4);
  shape.heads = shape.groups * dice.between(1, 3);
  shape.head_dim = dice.coin() ? dice.between(1, 20) : dice.between(30, 70);
  shape.state_dim = dice.coin() ? dice.between(1, 20) : dice.between(30, 70);
  shape.tokens = dice.coin() ? dice.between(1, 20) : dice.between(60, 300);
  return shape;
}

/// Where a scan of bf16 runs in products of bf16, it may also round between them.
double tolerance_of(const SsdCase& c) {
  return c.x.dtype() == DType::bf16 && has_bf16_tiles() ? 1e-2 : c.variant->tolerance;
}

}  // namespace

TEST_CASE("Exact semantics remembers everything, by hand") {
  for (const char* name : {"sequential", "default", "default_optimized"}) {
    check_by_hand(halving(name, 4, 2), {1, 1.5F, 1.75F, 1.875F}, {1.875F});
  }
}

TEST_CASE("Independent chunks start from zero, by hand") {
  check_by_hand(halving("independent", 4, 2), {1, 1.5F, 1, 1.5F}, {1.5F});
}

TEST_CASE("Lookback sees the previous k chunks, by hand") {
  check_by_hand(halving("lookback", 4, 1, 1), {1, 1.5F, 1.5F, 1.5F}, {0.5F, 1});
  check_by_hand(halving("lookback", 4, 1, 2), {1, 1.5F, 1.75F, 1.75F}, {1, 0.25F, 0.5F});
}

TEST_CASE("own_end_state adds the decayed end state of the token's own chunk, by hand") {
  // Chunk of two: U = 1.5; y = (1 + 1.5 / 2, 1.5 + 1.5 / 4). The ragged last one: 1 + 1 / 2.
  check_by_hand(halving("own_end_state", 3, 2), {1.75F, 1.875F, 1.5F}, {1});
}

TEST_CASE("D skips the state, and the step size is limited on both sides") {
  SsdCase c = halving("default_optimized", 1, 4);
  c.D = Numbers::of({1}, {3.0F});
  check_by_hand(c, {4}, {1});
  c.dt = Numbers::of({1, 1}, {-50.0F});
  c.options.dt_min = 0.25F;
  check_by_hand(c, {3.25F}, {0.25F});
}

TEST_CASE("Every variant equals its semantics' definition at random shapes") {
  for (const SsdVariant& variant : ssd_variants()) {
    for (unsigned seed = 0; seed < 30; ++seed) {
      Dice dice(seed);
      const SsdShape shape = random_shape(dice);
      const DType dtype = dice.dtype();
      SsdCase c = random_ssd(variant, dice, shape, dtype, dice.between(1, 150), dice.between(0, 3));
      c.with_state = dice.coin();
      if (variant.causal()) c.options.first_position = dice.between(0, 400);
      if (dice.coin()) c.options.dt_max = 0.1F;
      CAPTURE(variant.name, seed, shape.tokens, shape.heads, shape.head_dim, shape.groups,
              shape.state_dim, name_of(dtype), c.options.chunk_size, c.options.lookback,
              c.options.first_position, c.with_state);
      compare_backends(c, tolerance_of(c));
    }
  }
}

TEST_CASE("Every variant equals its definition for chunks as long as the models'") {
  Dice dice(3);
  for (const SsdVariant& variant : ssd_variants()) {
    for (const std::int64_t chunk_size : {256, 512, 700}) {
      CAPTURE(variant.name, chunk_size);
      const SsdShape shape{
          .tokens = 1500, .heads = 2, .head_dim = 16, .groups = 1, .state_dim = 128};
      compare_backends(random_ssd(variant, dice, shape, DType::fp32, chunk_size, 1),
                       variant.tolerance);
    }
  }
}

TEST_CASE("Scans of bf16 equal their definition within a hundredth") {
  for (const SsdVariant& variant : ssd_variants()) {
    for (unsigned seed = 0; seed < 24; ++seed) {
      Dice dice(seed);
      SsdShape shape = random_shape(dice);
      if (seed % 4 == 0) shape = {.tokens = 700, .heads = 2, .head_dim = 64, .state_dim = 128};
      const std::int64_t chunk_size = seed % 4 == 0 ? 256 << seed / 4 % 2 : dice.between(1, 300);
      SsdCase c = random_ssd(variant, dice, shape, DType::bf16, chunk_size, dice.between(0, 3));
      c.with_state = seed % 3 != 0;
      if (dice.coin()) c.y = Numbers(DType::fp32, {shape.tokens, shape.heads, shape.head_dim}, 5);
      if (dice.coin()) {
        c.state = Numbers::random(dice.rng, DType::bf16,
                                  {state_slots(variant, c.options.lookback), shape.heads,
                                   shape.head_dim, shape.state_dim});
      }
      if (seed % 5 == 4) c.dt_bias = Numbers(DType::fp32, {shape.heads});  // decays that underflow
      if (variant.causal()) c.options.first_position = dice.between(0, 400);
      CAPTURE(variant.name, seed, shape.tokens, shape.heads, shape.head_dim, shape.groups,
              shape.state_dim, chunk_size, c.options.lookback, c.options.first_position,
              c.with_state);
      compare_backends(c, tolerance_of(c));
    }
  }
}

TEST_CASE("A call longer than one pass carries its state, whatever its storage type") {
  Dice dice(4);
  for (const SsdVariant& variant : ssd_variants()) {
    const SsdShape shape{.tokens = 9001, .heads = 2, .head_dim = 3, .groups = 1, .state_dim = 5};
    SsdCase c = random_ssd(variant, dice, shape, DType::fp32, 600, 2);
    for (const DType dtype : {DType::fp32, DType::bf16}) {
      CAPTURE(variant.name, name_of(dtype));
      c.state = Numbers(dtype, {state_slots(variant, c.options.lookback), 2, 3, 5});
      compare_backends(c, variant.tolerance);
    }
    c.with_state = false;
    CAPTURE(variant.name);
    compare_backends(c, variant.tolerance);
  }
}

TEST_CASE("A scan cut at any position continues exactly") {
  const SsdShape shape{.tokens = 45, .heads = 4, .head_dim = 5, .groups = 2, .state_dim = 7};
  for (const SsdVariant& variant : ssd_variants()) {
    if (!variant.causal()) continue;
    Dice dice(17);
    const SsdCase start = random_ssd(variant, dice, shape, DType::fp32, 10, 1);
    for (const Executor& exec : {reference_executor(), cpu_executor(2)}) {
      SsdCase whole = start;
      whole.run(exec);
      for (std::int64_t cut = 0; cut <= shape.tokens; ++cut) {
        SsdCase parts = start;
        parts.run_part(exec, 0, cut);
        parts.run_part(exec, cut, shape.tokens);
        CAPTURE(variant.name, name_of(exec.backend), cut);
        CHECK(relative_error(whole.y, parts.y) <= variant.tolerance);
        CHECK(relative_error(whole.state, parts.state) <= variant.tolerance);
      }
    }
  }
}

TEST_CASE("own_end_state continues at chunk borders and refuses any other position") {
  Dice dice(18);
  const SsdShape shape{.tokens = 25, .heads = 2, .head_dim = 3, .groups = 1, .state_dim = 4};
  const SsdCase start = random_ssd(variant_named("own_end_state"), dice, shape, DType::fp32, 10);
  SsdCase whole = start;
  SsdCase parts = start;
  whole.run(cpu_executor(1));
  parts.run_part(cpu_executor(1), 0, 10);
  parts.run_part(cpu_executor(1), 10, 25);
  CHECK(relative_error(whole.y, parts.y) <= 1e-6);
  CHECK_THROWS_WITH(parts.run_part(cpu_executor(1), 13, 25),
                    "ssd_scan: first_position is 13, but variant own_end_state needs whole chunks "
                    "of 10 tokens");
}

TEST_CASE("Steps equal the scan, for every causal variant and state type") {
  const SsdShape shape{.tokens = 23, .heads = 4, .head_dim = 6, .groups = 2, .state_dim = 9};
  for (const SsdVariant& variant : ssd_variants()) {
    if (!variant.causal()) continue;
    Dice dice(19);
    const SsdCase start = random_ssd(variant, dice, shape, DType::fp32, 5, 2);
    SsdCase scanned = start;
    scanned.run(reference_executor());
    for (const Executor& exec : {reference_executor(), cpu_executor(1), cpu_executor(3)}) {
      SsdCase stepped = start;
      stepped.run_steps(exec);
      CAPTURE(variant.name, name_of(exec.backend));
      CHECK(relative_error(scanned.y, stepped.y) <= variant.tolerance);
      CHECK(relative_error(scanned.state, stepped.state) <= variant.tolerance);
    }
    SsdCase rounded = start;
    rounded.state = Numbers(DType::bf16, {state_slots(variant, 2), 4, 6, 9});
    SsdCase expected = rounded;
    expected.run_steps(reference_executor());
    rounded.run_steps(cpu_executor(2));
    CAPTURE(variant.name);
    CHECK(relative_error(expected.state, rounded.state) <= 2 * storage_step(DType::bf16));
  }
}

TEST_CASE("Lookback of no chunk is independent, bit for bit") {
  const SsdShape shape{.tokens = 333, .heads = 4, .head_dim = 8, .groups = 2, .state_dim = 16};
  for (const std::int64_t chunk_size : {7, 64, 100}) {
    for (const DType dtype : {DType::fp32, DType::bf16}) {
      Dice dice(20);
      SsdCase none = random_ssd(variant_named("lookback"), dice, shape, dtype, chunk_size, 0);
      SsdCase independent = none;
      independent.variant = &variant_named("independent");
      none.run(cpu_executor(2));
      independent.run(cpu_executor(2));
      CAPTURE(chunk_size, name_of(dtype));
      CHECK((none.y.bytes() == independent.y.bytes()));
      CHECK((none.state.bytes() == independent.state.bytes()));
    }
  }
}

TEST_CASE("Lookback over all chunks is exact, and independent is not") {
  Dice dice(21);
  const SsdShape shape{.tokens = 200, .heads = 4, .head_dim = 8, .groups = 1, .state_dim = 16};
  SsdCase all = random_ssd(variant_named("lookback"), dice, shape, DType::fp32, 50, 10);
  all.with_state = false;
  SsdCase exact = all;
  exact.variant = &variant_named("default_optimized");
  SsdCase independent = all;
  independent.variant = &variant_named("independent");
  for (SsdCase* c : {&all, &exact, &independent}) c->run(cpu_executor(2));
  CHECK(relative_error(exact.y, all.y) < 1e-5);
  CHECK(relative_error(exact.y, independent.y) > 1e-3);
}

TEST_CASE("Exact variants do not depend on the chunk size") {
  const SsdShape shape{.tokens = 150, .heads = 2, .head_dim = 8, .groups = 1, .state_dim = 16};
  for (const SsdVariant& variant : ssd_variants()) {
    if (variant.semantics != SsdSemantics::exact) continue;
    Dice dice(22);
    const SsdCase start = random_ssd(variant, dice, shape, DType::fp32, 1);
    SsdCase smallest = start;
    smallest.run(cpu_executor(1));
    for (const std::int64_t chunk_size : {16, 37, 64, 150, 100000}) {
      SsdCase c = start;
      c.options.chunk_size = chunk_size;
      c.run(cpu_executor(1));
      CAPTURE(variant.name, chunk_size);
      CHECK(relative_error(smallest.y, c.y) <= variant.tolerance);
    }
  }
}

TEST_CASE("Decays that underflow within a chunk leave finite results") {
  for (const SsdVariant& variant : ssd_variants()) {
    Dice dice(23);
    const SsdShape shape{.tokens = 300, .heads = 3, .head_dim = 4, .groups = 1, .state_dim = 8};
    SsdCase c = random_ssd(variant, dice, shape, DType::fp32, 128, 1);
    c.A = Numbers::of({3}, {-1e4F, -50.0F, -1e-6F});
    c.dt_bias = Numbers::of({3}, {5.0F, 0.0F, 0.0F});
    CAPTURE(variant.name);
    compare_backends(c, variant.tolerance);
  }
}

TEST_CASE("A result does not depend on later tokens, except for own_end_state") {
  const SsdShape shape{.tokens = 100, .heads = 2, .head_dim = 4, .groups = 1, .state_dim = 8};
  for (const SsdVariant& variant : ssd_variants()) {
    Dice dice(24);
    const SsdCase start = random_ssd(variant, dice, shape, DType::fp32, 64, 1);
    SsdCase whole = start;
    SsdCase changed = start;
    for (std::int64_t t = 50; t < 100; ++t) {
      for (std::int64_t h = 0; h < 2; ++h) changed.x.view<3>().store(9.0F, t, h, 0);
    }
    whole.run(cpu_executor(1));
    changed.run(cpu_executor(1));
    bool same = true;
    for (std::int64_t t = 0; t < 50; ++t) {
      same = same && whole.y.view<3>().load(t, 1, 0) == changed.y.view<3>().load(t, 1, 0);
    }
    CAPTURE(variant.name);
    CHECK(same == variant.causal());
  }
}

TEST_CASE("An empty scan leaves the state alone") {
  for (const SsdVariant& variant : ssd_variants()) {
    Dice dice(25);
    const SsdShape shape{.tokens = 0, .heads = 2, .head_dim = 4, .groups = 1, .state_dim = 8};
    SsdCase c = random_ssd(variant, dice, shape, DType::fp32, 64, 1);
    const auto before = c.state.bytes();
    c.run(cpu_executor(2));
    CHECK((c.state.bytes() == before));
  }
}

TEST_CASE("The table of variants has unique names that can be found") {
  for (const SsdVariant& variant : ssd_variants()) {
    CHECK(find_ssd_variant(variant.name) == &variant);
    CHECK(!variant.summary.empty());
  }
  CHECK(find_ssd_variant("no such variant") == nullptr);
  CHECK(state_slots(variant_named("lookback"), 3) == 4);
  CHECK(state_slots(variant_named("default"), 3) == 1);
}

TEST_CASE("The cost counts causal pairs, passes over the state, and bytes") {
  SsdCase c = halving("default_optimized", 128, 256);
  // Two blocks of 64: 64 * 65 for each of scores and pairs, 2 * 64 per write and read of the state.
  CHECK(ssd_cost(*c.variant, c.args()).flops == 2 * (2 * 64 * 65 + 2 * 2 * 64));
  CHECK(ssd_cost(*c.variant, c.args()).bytes == 4 * (5 * 128 + 2));
  c.with_state = false;  // the first block has nothing to read, the last nothing to leave
  CHECK(ssd_cost(*c.variant, c.args()).flops == 2 * (2 * 64 * 65 + 2 * 64));
}

TEST_CASE("ssd_scan and ssd_step name what is wrong with their arguments") {
  Dice dice(26);
  const SsdShape shape{.tokens = 4, .heads = 3, .head_dim = 2, .groups = 1, .state_dim = 2};
  const SsdCase good = random_ssd(variant_named("lookback"), dice, shape, DType::fp32, 2, 1);
  const Executor exec = cpu_executor(1);
  SsdCase bad = good;
  bad.options.lookback = 2;
  CHECK_THROWS_WITH(bad.run(exec),
                    "ssd_scan: state has shape [2, 3, 2, 2], expected [3, 3, 2, 2] (slots x heads "
                    "x head_dim x state_dim)");
  bad = good;
  bad.options.chunk_size = 0;
  CHECK_THROWS_WITH(bad.run(exec), "ssd_scan: chunk_size is 0, expected at least 1");
  bad = good;
  bad.B = Numbers(DType::fp32, {4, 2, 2});
  bad.C = Numbers(DType::fp32, {4, 2, 2});
  CHECK_THROWS_WITH(bad.run(exec),
                    "ssd_scan: x has 3 heads, expected a multiple of the 2 groups of B");
  bad = good;
  bad.variant = &variant_named("own_end_state");
  CHECK_THROWS_WITH(bad.run_steps(exec),
                    "ssd_step: variant own_end_state is not causal and has no decode form");
  bad.variant = &variant_named("independent");
  CHECK_THROWS_WITH(bad.run_steps(exec), "ssd_step: state has 2 slots, expected 1");
  bad.variant = &variant_named("default");
  CHECK_THROWS_AS(
      ssd_scan({.backend = Backend::cuda},
               SsdVariant{.name = "none", .semantics = SsdSemantics::exact}, bad.args()),
      ShapeError);
}
