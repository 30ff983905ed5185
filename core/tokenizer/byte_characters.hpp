// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace chunkstate {

/// The bytes a token's text stands for: GPT-2's table of bytes as printable characters. A text with
/// a character outside the table stands for its own UTF-8; `in_table` says which it was.
std::string bytes_of_token_text(std::string_view text, bool& in_table);

/// The byte that a token "<0x..>" stands for; -1 for other texts.
int fallback_byte(std::string_view text);

}  // namespace chunkstate
