// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace chunkstate {

/// Finds added tokens in a text: the leftmost, of these the longest.
class AddedTokenFinder {
 public:
  struct Found {
    std::size_t begin = 0;
    std::size_t bytes = 0;
    std::int32_t id = 0;
  };

  /// `content` is not empty; of equal ones the first counts.
  void add(const std::string& content, std::int32_t id);

  /// The first one at or behind `from`.
  std::optional<Found> find(std::string_view text, std::size_t from) const;

 private:
  bool may_start(std::string_view text, std::size_t i) const;

  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const;
  };
  std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>> ids_;
  std::vector<std::size_t> lengths_;  // descending
  std::bitset<256 * 256> starts_;     // by the first two bytes
  bool single_byte_ = false;
};

}  // namespace chunkstate
