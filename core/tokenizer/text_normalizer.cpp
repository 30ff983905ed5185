// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer/text_normalizer.hpp"

#include "core/errors.hpp"

namespace chunkstate {

std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content) {
  std::string result;
  result.reserve(text.size());
  std::size_t begin = 0;
  for (;;) {
    const std::size_t found = text.find(pattern, begin);
    result += text.substr(begin, found - begin);
    if (found == std::string_view::npos) return result;
    result += content;
    begin = found + pattern.size();
  }
}

std::string TextNormalizer::apply(std::string_view text, std::size_t limit) const {
  std::string result(text);
  for (const Step& step : steps_) {
    if (step.pattern.empty()) {
      if (!result.empty()) result.insert(0, step.content);
    } else {
      result = replace_all(result, step.pattern, step.content);
    }
    if (result.size() > limit) {
      throw InputError("text has " + std::to_string(result.size()) +
                       " bytes after the tokenizer's normalizer, expected at most " +
                       std::to_string(limit));
    }
  }
  return result;
}

}  // namespace chunkstate
