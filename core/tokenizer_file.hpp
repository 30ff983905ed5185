// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/byte_pair_merges.hpp"

namespace chunkstate {

constexpr std::size_t max_tokenizer_bytes = std::size_t{64} << 20;

struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool special = false;
  bool normalized = false;  // looked for after the others, in what they leave
};

/// What a tokenizer.json says, checked: ids are unique and in range, merges name known tokens.
struct TokenizerFile {
  struct Token {
    std::string bytes;
    bool in_vocabulary =
        false;  // a piece of text can be this token; false for added tokens and holes
  };
  std::vector<Token> tokens;                    // by id
  std::array<std::int32_t, 256> byte_tokens{};  // -1: the vocabulary has none
  std::vector<BytePairMerges::Merge> merges;    // by rank
  std::vector<AddedToken> added;
  std::vector<std::string> split_patterns;   // each cuts the pieces of the one before
  std::vector<std::int32_t> prefix, suffix;  // the post-processor's template
  bool ignore_merges = false;
};

/// Reads the bytes of a byte-level BPE tokenizer.json. What would change the ids and is not
/// implemented is refused by name. `file` is used in messages only; `vocab_size`, if not 0, bounds
/// the ids. A pure function. Throws InputError.
TokenizerFile parse_tokenizer_file(std::string_view json, const std::string& file,
                                   std::int64_t vocab_size);

/// The bytes a token's text stands for: GPT-2's table of bytes as printable characters. A text with
/// a character outside the table stands for its own UTF-8; `in_table` says which it was.
std::string bytes_of_token_text(std::string_view text, bool& in_table);

}  // namespace chunkstate
