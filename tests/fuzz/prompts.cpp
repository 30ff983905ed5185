// SPDX-License-Identifier: Apache-2.0
// A JSON list or JSON Lines -> prompts.
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "core/errors.hpp"
#include "experiments/spec/prompt_set.hpp"
#include "tests/fuzz/target.hpp"

using namespace chunkstate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string bytes(text_of(data, size));
  try {
    const PromptSet set = parse_prompts(bytes, "prompts.json");
    std::set<std::string> ids;
    for (const Prompt& prompt : set.prompts) {
      expect(!prompt.text.empty(), "a prompt has text");
      expect(ids.insert(prompt.id).second, "ids are distinct");
      for (const auto& [name, value] : prompt.extra) {
        expect(nlohmann::json::accept(value), "further fields are kept as JSON");
      }
    }
    const std::size_t first = bytes.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
    if (first != std::string::npos && bytes[first] == '[') {
      expect(nlohmann::json::accept(bytes), "an accepted list is JSON");
    }
    expect(parse_prompts(bytes, "prompts.json", 1).prompts.size() == 1, "the limit is kept");
  } catch (const InputError&) {
  }
  return 0;
}
