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
    text +=
        fmt::format("| `{}`{} | {} | {} | {} |\n", key.path, key.scope == Scope::point ? " *" : "",
                    key.domain.expected(), value, key.help);
  }
  return text;
}

}  // namespace chunkstate
