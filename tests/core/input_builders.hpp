// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <exception>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "tests/temporary_folder.hpp"

namespace chunkstate {

/// What `body` throws as an `Expected`: its message; anything else that happens, said in words.
template <class Expected, class Body>
std::string message_of(Body&& body) {
  try {
    body();
  } catch (const Expected& error) {
    return error.what();
  } catch (const std::exception& error) {
    return std::string("ANOTHER EXCEPTION: ") + error.what();
  } catch (...) {
    return "AN UNKNOWN EXCEPTION";
  }
  return "NO EXCEPTION";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline std::string little_endian(std::uint64_t value) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>((value >> (8 * i)) & 0xFFU);
  return bytes;
}

/// A container whose header is exactly `header`.
inline std::string raw_safetensors(const std::string& header, const std::string& data) {
  return little_endian(header.size()) + header + data;
}

/// A container whose header is an object of `members`.
inline std::string safetensors_file(std::initializer_list<std::string> members,
                                    const std::string& data, const std::string& padding = "") {
  std::string header;
  for (const std::string& member : members) header += (header.empty() ? "{" : ",") + member;
  return raw_safetensors((header.empty() ? "{" : header) + "}" + padding, data);
}

/// `"name": {...}` of a header.
inline std::string tensor_entry(const std::string& name, const std::string& dtype,
                                const std::string& shape, const std::string& offsets) {
  std::string text = "\"";
  text += name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape;
  return text + ",\"data_offsets\":" + offsets + "}";
}

}  // namespace chunkstate
