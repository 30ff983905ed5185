// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer/added_tokens.hpp"

#include <xxhash.h>

#include <algorithm>

namespace chunkstate {

std::size_t AddedTokenFinder::Hash::operator()(std::string_view text) const {
  return XXH3_64bits(text.data(), text.size());
}

void AddedTokenFinder::add(const std::string& content, std::int32_t id) {
  ids_.emplace(content, id);
  lengths_.push_back(content.size());
  std::sort(lengths_.begin(), lengths_.end(), std::greater<>());
  lengths_.erase(std::unique(lengths_.begin(), lengths_.end()), lengths_.end());
  const std::size_t first = static_cast<unsigned char>(content[0]);
  if (content.size() > 1) {
    starts_.set(first * 256 + static_cast<unsigned char>(content[1]));
  } else {
    for (std::size_t second = 0; second < 256; ++second) starts_.set(first * 256 + second);
    single_byte_ = true;
  }
}

std::optional<AddedTokenFinder::Found> AddedTokenFinder::find(std::string_view text,
                                                              std::size_t from) const {
  if (ids_.empty()) return std::nullopt;
  for (std::size_t i = from; i < text.size(); ++i) {
    if (!may_start(text, i)) continue;
    for (const std::size_t bytes : lengths_) {
      if (bytes > text.size() - i) continue;
      const auto found = ids_.find(text.substr(i, bytes));
      if (found != ids_.end()) return Found{i, bytes, found->second};
    }
  }
  return std::nullopt;
}

bool AddedTokenFinder::may_start(std::string_view text, std::size_t i) const {
  if (i + 1 == text.size()) return single_byte_;
  return starts_[static_cast<unsigned char>(text[i]) * 256U +
                 static_cast<unsigned char>(text[i + 1])];
}

}  // namespace chunkstate
