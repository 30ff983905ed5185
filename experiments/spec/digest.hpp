// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace chunkstate {

/// xxh3-128 of `bytes`: the same on every machine.
struct ContentHash {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  explicit ContentHash(std::string_view bytes);
  std::string hex() const;  // 32 digits
};

/// Appends `field` with its length in front, so that two lists of fields never give the same bytes.
void append_field(std::string& bytes, std::string_view field);

}  // namespace chunkstate
