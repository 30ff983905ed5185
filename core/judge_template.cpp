// SPDX-License-Identifier: Apache-2.0
#include "core/judge_template.hpp"

#include <string_view>

#include "core/errors.hpp"

namespace chunkstate {

JudgeTemplate parse_judge_template(const std::string& text) {
  constexpr std::string_view placeholder = "{given}";
  const std::size_t at = text.find(placeholder);
  if (at == std::string::npos || text.find(placeholder, at + 1) != std::string::npos) {
    throw UsageError("judge template '" + text + "': expected {given} exactly once");
  }
  return {text.substr(0, at), text.substr(at + placeholder.size())};
}

}  // namespace chunkstate
