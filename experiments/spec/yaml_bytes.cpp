// SPDX-License-Identifier: Apache-2.0
#include "experiments/spec/yaml_bytes.hpp"

#include <fmt/format.h>

#include <cstddef>

#include "experiments/spec/yaml_tree.hpp"

namespace chunkstate {
namespace {

/// Bytes of the UTF-8 character at the start of `bytes`, 0 if it is none (overlong forms,
/// surrogates and values above U+10FFFF are none).
std::size_t utf8_length(std::string_view bytes) {
  const auto at = [&](std::size_t i) {
    return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0U;
  };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xC0U) != 0x80) return 0;
  }
  const unsigned second = at(1);
  if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ||
      (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F)) {
    return 0;
  }
  return length;
}

/// Empty if the text does not begin with a byte order mark.
std::string_view byte_order_mark(std::string_view bytes) {
  if (bytes.substr(0, 3) == "\xEF\xBB\xBF") return "a UTF-8 byte order mark";
  if (bytes.substr(0, 2) == "\xFF\xFE" || bytes.substr(0, 2) == "\xFE\xFF") {
    return "UTF-16 or UTF-32 text";
  }
  return {};
}

}  // namespace

void check_yaml_bytes(std::string_view bytes,
                      const std::function<void(int, int, const std::string&)>& fail) {
  if (bytes.size() > max_yaml_bytes) {
    fail(1, 1, fmt::format("found more than {} bytes, expected at most 1 MiB", max_yaml_bytes));
  }
  if (const std::string_view mark = byte_order_mark(bytes); !mark.empty()) {
    fail(1, 1, fmt::format("found {}, expected UTF-8 without a mark", mark));
  }
  int line = 1;
  std::size_t line_start = 0;
  bool in_indentation = true;
  bool tab_in_indentation = false;
  int open_brackets = 0;
  for (std::size_t i = 0; i < bytes.size();) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    const int column = static_cast<int>(i - line_start) + 1;
    const std::size_t length = utf8_length(bytes.substr(i));
    if (length == 0) {
      fail(line, column, fmt::format("found the byte 0x{:02X}, which is not UTF-8", byte));
    }
    if (byte == '\n') {
      ++line;
      line_start = i + 1;
      in_indentation = true;
      tab_in_indentation = false;
      open_brackets = 0;
    } else if (byte == 0) {
      fail(line, column, "found a NUL byte, expected text");
    } else if ((byte < 0x20 && byte != '\t' && byte != '\r') || byte == 0x7F) {
      fail(line, column, fmt::format("found the control character 0x{:02X}, expected text", byte));
    } else if (in_indentation && byte == '\t') {
      tab_in_indentation = true;
    } else if (byte != ' ' && byte != '\r') {
      if (in_indentation && tab_in_indentation && byte != '#') {
        fail(line, column, "found a tab in the indentation, expected spaces");
      }
      if (column == 1 && byte == '%') fail(line, 1, "found a directive, expected none");
      in_indentation = false;
      // Per line, because yaml-cpp's scanner looks ahead to the end of a line before it hands out
      // the first bracket (270 bytes for each); deeper nesting over several lines is counted on the
      // way.
      if (byte == '[' || byte == '{') ++open_brackets;
      if (byte == ']' || byte == '}') --open_brackets;
      if (open_brackets > max_yaml_depth) {
        fail(line, column, fmt::format("found nesting deeper than {} levels", max_yaml_depth));
      }
    }
    i += length;
  }
}

}  // namespace chunkstate
