// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "core/model.hpp"
#include "core/open_model.hpp"
#include "kernels/base/memory.hpp"
#include "tests/catch.hpp"

namespace chunkstate {

/// The models of tests/golden, by the table of variants that their layers have.
inline const std::vector<std::string> ssd_models = {"bamba-a",
                                                    "bamba-b",
                                                    "bamba-e",
                                                    "llama-a",
                                                    "granite-a",
                                                    "granitemoehybrid-a",
                                                    "granitemoehybrid-b",
                                                    "mamba2-a",
                                                    "mamba2-b"};
inline const std::vector<std::string> mamba1_models = {"mamba1-a", "mamba1-b"};

/// The GPU's only where there is one.
inline std::vector<Backend> backends() {
  std::vector<Backend> found = {Backend::reference, Backend::cpu};
  if (device_count() > 0) found.push_back(Backend::cuda);
  return found;
}

/// A model folder on two threads.
inline Model open_folder(const std::string& folder, Backend backend = Backend::cpu,
                         DType dtype = DType::fp32) {
  const OpenModel files = open_model({folder});
  ModelOptions options;
  options.backend = backend;
  options.threads = 2;
  options.dtype = dtype;
  return {files.config, files.checkpoint, options};
}

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
