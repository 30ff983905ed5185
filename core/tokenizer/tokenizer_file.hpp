// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/tokenizer/byte_pair_merges.hpp"
#include "core/tokenizer/merge_borders.hpp"
#include "core/tokenizer/text_normalizer.hpp"

namespace chunkstate {

constexpr std::size_t max_tokenizer_bytes = std::size_t{64} << 20;

struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool special = false;
  bool normalized = false;  // looked for after the others, in what they leave
};

/// What a tokenizer.json says, checked: ids are unique and in range, merges name known tokens.
/// Two forms: byte-level BPE cuts a text into pieces by expressions and starts from their bytes;
/// BPE with byte fallback (SentencePiece's form, as Llama-2 has it) starts from the characters of
/// the whole normalized text, and from bytes for characters that are no token.
struct TokenizerFile {
  struct Token {
    std::string bytes;     // what it decodes to
    bool is_byte = false;  // byte fallback: a run of such tokens is one piece of UTF-8
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

  // With byte fallback only.
  bool byte_fallback = false;
  TextNormalizer normalizer;
  MergeBorders borders;
  std::unordered_map<char32_t, std::int32_t> character_tokens;
  std::int32_t unknown = -1;        // for a character that is no token and lacks a byte token
  bool fuse_unknown = false;        // a run of them is one token
  std::size_t stripped_spaces = 0;  // at most so many leading spaces of a decoded text are dropped
};

/// Reads the bytes of a tokenizer.json of one of the two forms. What would change the ids and is
/// not implemented is refused by name. `file` is used in messages only; `vocab_size`, if not 0,
/// bounds the ids. A pure function. Throws InputError.
TokenizerFile parse_tokenizer_file(std::string_view json, const std::string& file,
                                   std::int64_t vocab_size);

}  // namespace chunkstate
