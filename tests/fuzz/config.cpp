// SPDX-License-Identifier: Apache-2.0
// config.json -> the shape of a model.
#include "core/checkpoint/checkpoint.hpp"
#include "core/checkpoint/model_config.hpp"
#include "core/errors.hpp"
#include "tests/fuzz/target.hpp"

using namespace chunkstate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const ModelConfig config = parse_model_config(text_of(data, size), "config.json");
    std::int64_t parameters = 0;
    for (const auto& [name, extents] : expected_tensors(config)) {
      expect(!name.empty() && element_count(extents) > 0, "every weight has elements");
      parameters += element_count(extents);
    }
    expect(parameters == config.parameters(), "the weights are the parameters");
  } catch (const InputError&) {
  }
  return 0;
}
