// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace chunkstate {

/// Values as bytes, in the machine's own format: between a process and its child. A struct is
/// transferred by `transfer(archive, value)`, which names its fields once for both directions.
class ByteWriter {
 public:
  template <class Value>
  void operator()(Value& value) {
    if constexpr (std::is_arithmetic_v<Value> || std::is_enum_v<Value>) {
      bytes_.append(reinterpret_cast<const char*>(&value), sizeof(Value));
    } else {
      transfer(*this, value);
    }
  }
  void operator()(std::string& text) {
    size(text.size());
    bytes_ += text;
  }
  template <class Value>
  void operator()(std::vector<Value>& values) {
    size(values.size());
    if constexpr (std::is_arithmetic_v<Value>) {
      bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value));
    } else {
      for (Value& value : values) (*this)(value);
    }
  }
  template <class First, class Second>
  void operator()(std::pair<First, Second>& pair) {
    (*this)(pair.first);
    (*this)(pair.second);
  }
  std::string take() { return std::move(bytes_); }

 private:
  void size(std::uint64_t count) { (*this)(count); }
  std::string bytes_;
};

/// Throws std::runtime_error if the bytes end early.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  template <class Value>
  void operator()(Value& value) {
    if constexpr (std::is_arithmetic_v<Value> || std::is_enum_v<Value>) {
      std::memcpy(&value, next(1, sizeof(Value)), sizeof(Value));
    } else {
      transfer(*this, value);
    }
  }
  void operator()(std::string& text) {
    const std::uint64_t count = size();
    text.assign(next(count, 1), count);
  }
  template <class Value>
  void operator()(std::vector<Value>& values) {
    const std::uint64_t count = size();
    if constexpr (std::is_arithmetic_v<Value>) {
      const char* data = next(count, sizeof(Value));
      values.resize(count);
      if (count > 0) std::memcpy(values.data(), data, count * sizeof(Value));
    } else {
      // Every element takes at least eight bytes: a wrong count is refused before it is allocated.
      if (count > bytes_.size() / 8) throw std::runtime_error("the bytes end early");
      values.resize(count);
      for (Value& value : values) (*this)(value);
    }
  }
  template <class First, class Second>
  void operator()(std::pair<First, Second>& pair) {
    (*this)(pair.first);
    (*this)(pair.second);
  }

 private:
  std::uint64_t size() {
    std::uint64_t count = 0;
    (*this)(count);
    return count;
  }
  const char* next(std::uint64_t count, std::size_t element) {
    if (count > bytes_.size() / element) throw std::runtime_error("the bytes end early");
    const char* data = bytes_.data();
    bytes_.remove_prefix(count * element);
    return data;
  }
  std::string_view bytes_;
};

}  // namespace chunkstate
