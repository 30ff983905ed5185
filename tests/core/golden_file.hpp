// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors.hpp"

namespace chunkstate::test {

inline std::string golden_path(const std::string& name) {
  return std::string(CHUNKSTATE_SOURCE_DIR) + "/tests/golden/" + name;
}

/// Reference values: a safetensors file of I32 and F32 tensors. tests/golden/README.md says what is
/// what.
class GoldenFile {
 public:
  explicit GoldenFile(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) throw std::runtime_error("cannot open " + path);
    bytes_.assign(std::istreambuf_iterator<char>(in), {});
    entries_ = parse_safetensors_header(bytes_, bytes_.size(), path);
  }

  bool contains(const std::string& name) const { return find(name) != nullptr; }
  std::vector<std::int32_t> integers(const std::string& name) const {
    return values<std::int32_t>(name, "I32");
  }
  std::vector<float> floats(const std::string& name) const { return values<float>(name, "F32"); }

 private:
  const SafetensorsEntry* find(const std::string& name) const {
    for (const SafetensorsEntry& entry : entries_) {
      if (entry.name == name) return &entry;
    }
    return nullptr;
  }
  template <class T>
  std::vector<T> values(const std::string& name, const std::string& dtype) const {
    const SafetensorsEntry* entry = find(name);
    if (entry == nullptr || entry->dtype != dtype) {
      throw std::runtime_error("golden file: no " + dtype + " tensor '" + name + "'");
    }
    std::vector<T> result((entry->end - entry->begin) / sizeof(T));
    std::memcpy(result.data(), bytes_.data() + entry->begin, result.size() * sizeof(T));
    return result;
  }

  std::string bytes_;
  std::vector<SafetensorsEntry> entries_;
};

}  // namespace chunkstate::test
