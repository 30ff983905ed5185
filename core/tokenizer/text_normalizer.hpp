// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace chunkstate {

/// What a tokenizer.json does to a text before it looks for tokens: the normalizers Prepend and
/// Replace, in their order.
class TextNormalizer {
 public:
  struct Step {
    std::string pattern;  // empty: `content` is put before a text that is not empty
    std::string content;  // else takes the place of `pattern` everywhere
  };

  void add(Step step) { steps_.push_back(std::move(step)); }
  std::size_t steps() const { return steps_.size(); }

  /// Throws InputError if a text grows beyond `limit` bytes.
  std::string apply(std::string_view text, std::size_t limit) const;

 private:
  std::vector<Step> steps_;
};

/// `text` with every `pattern` replaced by `content`, from the left, not looking at what was put
/// in.
std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content);

}  // namespace chunkstate
