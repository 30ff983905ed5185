// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/model.hpp"
#include "tests/catch.hpp"

namespace chunkstate {

/// All logits, the tokens given `step` at a time (0: at once).
inline std::vector<float> all_logits(Model& model, const SsdSettings& ssd,
                                     const std::vector<std::int32_t>& tokens, std::int64_t step) {
  std::vector<float> logits;
  SequenceState state = model.make_state(ssd, 1, static_cast<std::int64_t>(tokens.size()));
  model.prefill(tokens, state, 0, step, LogitsRows::all,
                [&](std::int64_t, std::int64_t, View<const float, 2> rows) {
                  logits.insert(logits.end(), rows.data,
                                rows.data + rows.extent[0] * rows.extent[1]);
                });
  return logits;
}

/// Largest difference relative to the largest expected value. Every value must be finite.
inline double relative_difference(const std::vector<float>& actual,
                                  const std::vector<float>& expected) {
  REQUIRE(actual.size() == expected.size());
  double difference = 0;
  double largest = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    REQUIRE(std::isfinite(actual[i]));
    difference = std::max(difference, std::abs(static_cast<double>(actual[i]) - expected[i]));
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  return difference / largest;
}

}  // namespace chunkstate
