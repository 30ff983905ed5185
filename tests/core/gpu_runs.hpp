// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "core/generate.hpp"
#include "core/open_model.hpp"
#include "core/variant_names.hpp"
#include "tests/catch.hpp"

// What the tests of models on a GPU run: bamba-tiny and a text, as a rule.
namespace chunkstate::test {

inline const std::string text =
    "The state of a recurrent layer is a summary of everything before it. When the sequence is cut "
    "into chunks, what one chunk leaves behind is all that the next one knows of it. ";

inline const OpenModel& tiny() {
  static const OpenModel model =
      open_model({std::string(CHUNKSTATE_SOURCE_DIR) + "/experiments/models/bamba-tiny"});
  return model;
}

inline ModelOptions options(Backend backend, DType dtype, ExecutionMode mode = ExecutionMode::eager,
                            bool fusion = false) {
  ModelOptions result;
  result.backend = backend;
  result.threads = 4;
  result.dtype = dtype;
  result.residual_dtype = dtype;
  result.execution = {mode, false, fusion};
  return result;
}

inline SsdSettings scan(const OpenModel& model, const std::string& variant) {
  return ssd_settings(variant, 16, 1, model.config);
}

inline std::vector<std::int32_t> prompt(std::size_t tokens) {
  auto ids = tiny().encode_prompt(text, -1);
  ids.resize(std::min(ids.size(), tokens));
  return ids;
}

inline std::vector<Generated> run(Model& model, const SsdSettings& ssd,
                                  const std::vector<std::vector<std::int32_t>>& prompts,
                                  std::int64_t tokens, const SamplingParams& sampling = {}) {
  GenerateOptions wanted;
  wanted.max_new_tokens = tokens;
  wanted.sampling = sampling;
  const std::vector<std::uint64_t> seeds(prompts.size(), 7);
  return generate(model, ssd, prompts, seeds, wanted);
}

}  // namespace chunkstate::test
