// SPDX-License-Identifier: Apache-2.0
#include "experiments/spec/byte_reader.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace chunkstate {

ByteReader::ByteReader(Source source)
    : source_(std::move(source)), buffer_(std::size_t{64} << 10, '\0') {}

bool ByteReader::refill() {
  std::copy(buffer_.begin() + static_cast<std::ptrdiff_t>(at_),
            buffer_.begin() + static_cast<std::ptrdiff_t>(end_), buffer_.begin());
  end_ -= at_;
  at_ = 0;
  const std::size_t count = source_(buffer_.data() + end_, buffer_.size() - end_);
  end_ += count;
  return count > 0;
}

std::string_view ByteReader::peek(std::size_t wanted) {
  while (end_ - at_ < wanted && refill()) {
  }
  return {buffer_.data() + at_, end_ - at_};
}

bool ByteReader::take_line(std::string& line, std::size_t most) {
  line.clear();
  if (peek() < 0) return false;
  while (line.size() <= most && peek() >= 0) {
    const char* begin = buffer_.data() + at_;
    const auto* newline = static_cast<const char*>(std::memchr(begin, '\n', end_ - at_));
    const std::size_t count =
        newline != nullptr ? static_cast<std::size_t>(newline - begin) : end_ - at_;
    line.append(begin, count);
    at_ += count;
    taken_ += static_cast<std::int64_t>(count);
    if (newline == nullptr) continue;
    skip();
    break;
  }
  return true;
}

}  // namespace chunkstate
