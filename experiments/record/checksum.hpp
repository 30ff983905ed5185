// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace chunkstate {

/// CRC-32C (Castagnoli) of the bytes: 0xE3069283 for "123456789".
std::uint32_t crc32c(std::string_view bytes);

/// Well-formed UTF-8 without NUL: every byte that is part of no valid sequence, and NUL, becomes
/// U+FFFD. The form in which text is journaled, digested and written (JSON and HDF5 strings can
/// hold nothing else).
std::string canonical_text(std::string_view text);

/// XXH3-128 over a stream of typed values, little-endian, texts with their length in front. Numbers
/// that are not a number count as one and the same NaN.
class Digest {
 public:
  Digest();
  ~Digest();
  Digest(Digest&&) noexcept;
  Digest& operator=(Digest&&) noexcept;

  Digest& text(std::string_view value);
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
