// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace chunkstate {

/// XXH3-128 over a stream of typed values, little-endian, texts with their length in front. Numbers
/// that are not a number count as one and the same NaN.
class Digest {
 public:
  Digest();
  ~Digest();
  Digest(Digest&&) noexcept;
  Digest& operator=(Digest&&) noexcept;

  Digest& text(std::string_view value);
  /// As they are, without their length.
  Digest& bytes(std::string_view value);
  Digest& integer(std::int64_t value);
  Digest& real(double value);
  Digest& real(float value);
  /// 32 lower-case hex digits of what was added so far.
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace chunkstate
