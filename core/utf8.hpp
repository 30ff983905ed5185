// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace chunkstate {

/// Length of the longest prefix that is valid UTF-8 (no surrogates, no overlong forms, at most
/// U+10FFFF).
std::size_t valid_utf8_prefix(std::string_view text);

/// Every maximal subpart of an ill-formed sequence becomes one U+FFFD: Python's errors="replace".
std::string replace_invalid_utf8(std::string_view text);

/// `code_point` as UTF-8, appended to `text`.
void append_utf8(std::string& text, char32_t code_point);

/// The code point at `position` of valid UTF-8; moves `position` behind it.
char32_t next_code_point(std::string_view text, std::size_t& position);

/// Untrusted text for one line of a message: at most `limit` bytes of it, controls and invalid
/// bytes as '?'.
std::string printable(std::string_view text, std::size_t limit = 80);

/// The same between apostrophes.
std::string in_quotes(std::string_view text, std::size_t limit = 80);

}  // namespace chunkstate
