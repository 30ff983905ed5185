// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>

namespace chunkstate {

/// Numbers in [0, count), two of each 64 random bits: std::uniform_int_distribution differs between
/// standard libraries.
class Draws {
 public:
  explicit Draws(std::uint64_t seed) : random_(seed) {}
  std::size_t operator()(std::size_t count) {
    bits_ = half_ ? bits_ >> 32 : random_();
    half_ = !half_;
    return static_cast<std::size_t>(((bits_ & 0xFFFFFFFFU) * count) >> 32);
  }

 private:
  std::mt19937_64 random_;
  std::uint64_t bits_ = 0;
  bool half_ = false;
};

}  // namespace chunkstate
