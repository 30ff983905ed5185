// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <random>

namespace chunkstate {

/// A number in [0, count). std::uniform_int_distribution differs between standard libraries.
inline std::size_t draw(std::mt19937_64& random, std::size_t count) {
  return static_cast<std::size_t>((static_cast<unsigned __int128>(random()) * count) >> 64);
}

}  // namespace chunkstate
