// SPDX-License-Identifier: Apache-2.0
#include "experiments/spec/digest.hpp"

#include <fmt/format.h>
#include <xxhash.h>

namespace chunkstate {

ContentHash::ContentHash(std::string_view bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  high = hash.high64;
  low = hash.low64;
}

std::string ContentHash::hex() const { return fmt::format("{:016x}{:016x}", high, low); }

void append_field(std::string& bytes, std::string_view field) {
  bytes += fmt::format("{}:", field.size());
  bytes += field;
}

}  // namespace chunkstate
