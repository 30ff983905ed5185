// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace chunkstate {

/// Bytes in pieces from a source that fills a buffer (0 bytes: the end), counting lines from 1.
class ByteReader {
 public:
  using Source = std::function<std::size_t(char*, std::size_t)>;

  explicit ByteReader(Source source);

  /// The next bytes, at least `wanted` (at most 4096) unless the end comes first. Takes nothing.
  std::string_view peek(std::size_t wanted);
  /// The next byte, or -1 at the end. Takes nothing.
  int peek() { return at_ < end_ || refill() ? static_cast<unsigned char>(buffer_[at_]) : -1; }
  /// Takes one byte; the end has not been reached.
  void skip() { line_ += buffer_[at_++] == '\n' ? 1 : 0, ++taken_; }
  /// Takes a line without its '\n' into `line`. False at the end. What exceeds `most` bytes is left
  /// untaken.
  bool take_line(std::string& line, std::size_t most);

  std::int64_t line() const { return line_; }
  std::int64_t taken() const { return taken_; }

 private:
  bool refill();

  Source source_;
  std::string buffer_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;
  std::int64_t line_ = 1;
  std::int64_t taken_ = 0;
};

}  // namespace chunkstate
