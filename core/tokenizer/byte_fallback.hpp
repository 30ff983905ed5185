// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/tokenizer/tokenizer_file.hpp"

namespace chunkstate {

/// What a piece of a text starts from, before merging, in a tokenizer with byte fallback: of each
/// character its token, or those of its bytes, or the unknown token, which waits for the next
/// character that is a token. Appended to `tokens`. Throws InputError where there is neither.
void add_characters(const TokenizerFile& file, std::string_view piece,
                    std::vector<std::int32_t>& tokens);

/// Joins the bytes of tokens to text: a run of byte tokens is text if it is valid UTF-8; if not,
/// each of them is a U+FFFD.
class FallbackText {
 public:
  void add(std::string_view bytes, bool is_byte);
  std::string take();

 private:
  void end_run();

  std::string text_, run_;
};

}  // namespace chunkstate
