// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <limits>
#include <string>

#include "kernels/ssd/ssd.hpp"
#include "tests/kernels/numbers.hpp"

namespace chunkstate::test {

struct SsdShape {
  std::int64_t tokens = 1, heads = 1, head_dim = 1, groups = 1, state_dim = 1;
};

/// A scan with its data; copied to run it again from the same state.
struct SsdCase {
  const SsdVariant* variant = nullptr;
  Numbers x, dt, B, C, A, dt_bias, D, y, state;
  SsdArgs options;  // the scalars; views are made when it runs
  bool with_state = true;

  SsdArgs args() {
    SsdArgs args = options;
    args.x = x.view<3>();
    args.dt = dt.view<2>();
    args.B = B.view<3>();
    args.C = C.view<3>();
    args.A = A.floats();
    args.dt_bias = dt_bias.floats();
    args.D = D.floats();
    args.y = y.view<3>();
    if (with_state) args.state = state.view<4>();
    return args;
  }

  void run(const Executor& exec) { ssd_scan(exec, *variant, args()); }

  /// The first or last tokens only.
  void run_part(const Executor& exec, std::int64_t begin, std::int64_t end) {
    SsdArgs part = args();
    part.x = part.x.slice(0, begin, end);
    part.dt = part.dt.slice(0, begin, end);
    part.B = part.B.slice(0, begin, end);
    part.C = part.C.slice(0, begin, end);
    part.y = part.y.slice(0, begin, end);
    part.first_position += begin;
    ssd_scan(exec, *variant, part);
  }

  /// The same tokens one by one through ssd_step.
  void run_steps(const Executor& exec) {
    const SsdArgs whole = args();
    for (std::int64_t t = 0; t < whole.x.extent[0]; ++t) {
      const std::int64_t position = whole.first_position + t;
      SsdStepArgs step;
      step.x = whole.x.slice(0, t, t + 1);
      step.dt = whole.dt.slice(0, t, t + 1);
      step.B = whole.B.slice(0, t, t + 1);
      step.C = whole.C.slice(0, t, t + 1);
      step.A = whole.A;
      step.dt_bias = whole.dt_bias;
      step.D = whole.D;
      step.dt_min = whole.dt_min;
      step.dt_max = whole.dt_max;
      step.y = whole.y.slice(0, t, t + 1);
      const auto& extent = whole.state.extent;
      step.state = AnyView<5>(whole.state.data, whole.state.dtype,
                              {1, extent[0], extent[1], extent[2], extent[3]});
      step.positions = {&position, {1}};
      step.chunk_size = whole.chunk_size;
      ssd_step(exec, *variant, step);
    }
  }

  std::vector<const Numbers*> outputs() const {
    return with_state ? std::vector<const Numbers*>{&y, &state} : std::vector<const Numbers*>{&y};
  }
};

/// Random inputs of one storage type. Decay rates span short and long memories; x, B, C and dt have
/// gaps between their rows, like slices of a projection.
inline SsdCase random_ssd(const SsdVariant& variant, Dice& dice, const SsdShape& shape, DType dtype,
                          std::int64_t chunk_size, std::int64_t lookback = 0) {
  const auto [tokens, heads, head_dim, groups, state_dim] = shape;
  SsdCase c;
  c.variant = &variant;
  c.options.chunk_size = chunk_size;
  c.options.lookback = variant.semantics == SsdSemantics::lookback ? lookback : 0;
  c.x = Numbers::random(dice.rng, dtype, {tokens, heads, head_dim}, 1, 0, dice.gap());
  c.dt = Numbers::random(dice.rng, dtype, {tokens, heads}, 1, 0, dice.gap());
  c.B = Numbers::random(dice.rng, dtype, {tokens, groups, state_dim}, 0.5F, 0, dice.gap());
  c.C = Numbers::random(dice.rng, dtype, {tokens, groups, state_dim}, 0.5F, 0, dice.gap());
  std::vector<float> rates;
  for (std::int64_t h = 0; h < heads; ++h) {
    rates.push_back(-std::exp(std::normal_distribution<float>(0, 2)(dice.rng)));
  }
  c.A = Numbers::of({heads}, rates);
  c.dt_bias = Numbers::random(dice.rng, DType::fp32, {heads}, 1, -3);
  c.D = Numbers::random(dice.rng, DType::fp32, {heads});
  c.y = Numbers(dtype, {tokens, heads, head_dim}, dice.gap());
  c.state =
      Numbers::random(dice.rng, DType::fp32,
                      {state_slots(variant, c.options.lookback), heads, head_dim, state_dim}, 0.5F);
  return c;
}

inline const SsdVariant& variant_named(const char* name) {
  const SsdVariant* variant = find_ssd_variant(name);
  REQUIRE(variant != nullptr);
  return *variant;
}

}  // namespace chunkstate::test
