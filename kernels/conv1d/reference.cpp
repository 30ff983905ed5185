// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/conv1d/conv1d.hpp"

namespace chunkstate::reference {

void conv1d(const Conv1dArgs& args) {
  const auto [tokens, channels] = args.x.extent;
  const std::int64_t taps = args.weight.extent[1];
  const std::int64_t history = taps - 1;
  // Input `t` of the call; negative ones stand in the window.
  const auto input = [&](std::int64_t t, std::int64_t c) -> double {
    if (t >= 0) return args.x.load(t, c);
    return args.window ? args.window.load(history + t, c) : 0.0F;
  };
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t c = 0; c < channels; ++c) {
      double sum = args.bias ? args.bias.load(c) : 0.0;
      for (std::int64_t k = 0; k < taps; ++k) {
        sum += args.weight.load(c, k) * input(t - history + k, c);
      }
      args.y.store(static_cast<float>(sum / (1.0 + std::exp(-sum))), t, c);
    }
  }
  if (!args.window) return;
  // Oldest first: a row is overwritten only after the older rows have read it.
  for (std::int64_t k = 0; k < history; ++k) {
    for (std::int64_t c = 0; c < channels; ++c) {
      args.window.store(static_cast<float>(input(tokens - history + k, c)), k, c);
    }
  }
}

void conv1d_step(const Conv1dStepArgs& args) {
  for (std::int64_t b = 0; b < args.x.extent[0]; ++b) {
    conv1d({.x = args.x.slice(0, b, b + 1),
            .weight = args.weight,
            .bias = args.bias,
            .window = args.window[b],
            .y = args.y.slice(0, b, b + 1)});
  }
}

}  // namespace chunkstate::reference
