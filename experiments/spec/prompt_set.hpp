// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace chunkstate {

struct Prompt {
  std::string id;  // given, or derived from the position
  std::string text;
  std::string answer;           // empty if the file has none
  std::int64_t token_len = -1;  // as stated by the file; -1: not stated
  std::int64_t num_chunks = -1;
  std::vector<std::int32_t> tokens;  // synthetic prompts only: ids instead of text
  std::vector<std::pair<std::string, std::string>>
      extra;  // the file's other fields, values as JSON text
};

struct PromptSet {
  std::vector<Prompt> prompts;
  std::string digest;  // 32 hex digits of the prompts' content
};

/// A JSON list or JSON Lines of {"prompt", "answer"?, "id"?, "token_len"?, "num_chunks"?, ...}.
/// Throws InputError with file:line (or file: item n).
PromptSet parse_prompts(const std::string& bytes, const std::string& file, std::int64_t limit = 0);

/// Reads a regular file, then parse_prompts.
PromptSet load_prompts(const std::string& path, std::int64_t limit = 0);

/// `count` prompts of exactly `tokens` random ids in [0, vocab_size), a function of `seed` alone.
PromptSet synthetic_prompts(std::int64_t tokens, std::int64_t count, std::int64_t vocab_size,
                            std::uint64_t seed);

}  // namespace chunkstate
