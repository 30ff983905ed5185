// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <vector>

#include "kernels/selective_scan/selective_scan.hpp"
#include "tests/kernels/numbers.hpp"

namespace chunkstate::test {

struct SelectiveScanShape {
  std::int64_t batch = 1, tokens = 1, channels = 1, state_dim = 1;
};

/// Which optional arguments are given.
struct SelectiveScanOptions {
  bool softplus = true, bias = true, skip = true, gate = true, state = true;
};

/// A scan with its data; copied to run it again from the same state.
struct SelectiveScanCase {
  const SelectiveScanVariant* variant = nullptr;
  Numbers x, dt, B, C, z, A, dt_bias, D, y, state;
  SelectiveScanOptions with;
  std::int64_t chunk_size = 256;

  SelectiveScanArgs args() {
    SelectiveScanArgs args;
    args.x = x.view<3>();
    args.dt = dt.view<3>();
    args.B = B.view<3>();
    args.C = C.view<3>();
    if (with.gate) args.z = z.view<3>();
    args.A = A.view<2>().as<float>();
    if (with.bias) args.dt_bias = dt_bias.floats();
    if (with.skip) args.D = D.floats();
    args.softplus = with.softplus;
    args.y = y.view<3>();
    if (with.state) args.state = state.view<3>();
    args.chunk_size = chunk_size;
    return args;
  }

  void run(const Executor& exec) { selective_scan(exec, *variant, args()); }

  /// The first or last tokens only.
  void run_part(const Executor& exec, std::int64_t begin, std::int64_t end) {
    SelectiveScanArgs part = args();
    for (auto* view : {&part.x, &part.dt, &part.B, &part.C, &part.z}) {
      if (*view) *view = view->slice(1, begin, end);
    }
    part.y = part.y.slice(1, begin, end);
    selective_scan(exec, *variant, part);
  }

  std::vector<const Numbers*> outputs() const {
    return with.state ? std::vector<const Numbers*>{&y, &state} : std::vector<const Numbers*>{&y};
  }
};

/// Random inputs of one storage type, with gaps between sequences. Decay rates span short and long
/// memories.
inline SelectiveScanCase random_selective_scan(const SelectiveScanVariant& variant, Dice& dice,
                                               const SelectiveScanShape& shape, DType dtype) {
  const auto [batch, tokens, channels, state_dim] = shape;
  const auto numbers = [&](Extents extents, float spread, float mean = 0) {
    return Numbers::random(dice.rng, dtype, std::move(extents), spread, mean, dice.gap());
  };
  SelectiveScanCase c;
  c.variant = &variant;
  c.x = numbers({batch, tokens, channels}, 1);
  c.dt = numbers({batch, tokens, channels}, 1);
  c.B = numbers({batch, tokens, state_dim}, 0.5F);
  c.C = numbers({batch, tokens, state_dim}, 0.5F);
  c.z = numbers({batch, tokens, channels}, 2);
  std::vector<float> rates;
  for (std::int64_t i = 0; i < channels * state_dim; ++i) {
    rates.push_back(-std::exp(std::normal_distribution<float>(0, 2)(dice.rng)));
  }
  c.A = Numbers::of({channels, state_dim}, rates);
  c.dt_bias = Numbers::random(dice.rng, DType::fp32, {channels}, 1, -3);
  c.D = Numbers::random(dice.rng, DType::fp32, {channels});
  c.y = Numbers(dtype, {batch, tokens, channels}, dice.gap());
  c.state = Numbers::random(dice.rng, dtype, {batch, channels, state_dim}, 0.5F, 0, dice.gap());
  return c;
}

/// Step sizes as they are, all of them positive.
inline void use_plain_steps(SelectiveScanCase& c, Dice& dice) {
  c.with.softplus = false;
  const AnyView<3> dt = c.dt.view<3>();
  for (std::int64_t b = 0; b < dt.extent[0]; ++b) {
    for (std::int64_t t = 0; t < dt.extent[1]; ++t) {
      for (std::int64_t d = 0; d < dt.extent[2]; ++d) {
        dt.store(std::uniform_real_distribution<float>(0.001F, 0.3F)(dice.rng), b, t, d);
      }
    }
  }
  c.with.bias = false;
}

}  // namespace chunkstate::test
