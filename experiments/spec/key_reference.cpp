// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "experiments/spec/key_table.hpp"

namespace chunkstate {

std::string experiment_key_reference() {
  static const ExperimentSpec defaults;
  std::string text = "| key | value | default | meaning |\n| --- | --- | --- | --- |\n";
  for (const Key& key : experiment_keys()) {
    const std::string stored = stored_value(key, defaults, defaults.base);
    const std::string value = key.required     ? "required"
                              : stored.empty() ? "not set"
                                               : fmt::format("`{}`", stored);
    std::string expected = key.domain.expected();
    for (std::size_t bar = 0; (bar = expected.find('|', bar)) != std::string::npos; bar += 2) {
      expected.insert(bar, "\\");  // a bar would end the cell
    }
    text += fmt::format("| `{}`{} | {} | {} | {} |\n", key.path,
                        key.scope == Scope::point ? " *" : "", expected, value, key.help);
  }
  return text;
}

}  // namespace chunkstate
