// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
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

/// The ids of a synthetic prompt as little-endian bytes, for digests.
std::string token_bytes(const Prompt& prompt);

struct PromptSet {
  std::vector<Prompt> prompts;  // at least one, ids distinct
  std::string digest;           // 32 hex digits of all fields of all prompts
};

/// One prompt's JSON may have so many bytes.
inline constexpr std::size_t max_prompt_bytes = std::size_t{16} << 20;

/// A JSON list or JSON Lines (told apart by the first character) of objects with "prompt" (text,
/// not empty) and optionally "answer", "id" (texts), "token_len", "num_chunks" (integers); further
/// fields are kept. The first `limit` prompts, 0: all; what comes after them is not looked at.
/// UTF-8, CRLF and a missing last newline are fine. Refused with `file:line: item n: found,
/// expected`: anything that is not strict JSON (lone surrogates, numbers beyond double), duplicate
/// keys and ids, NUL characters, blank lines between prompts, nesting deeper than 64, more than 16
/// MiB for a prompt, more than 256 kinds of further fields. Throws InputError.
PromptSet parse_prompts(const std::string& bytes, const std::string& file, std::int64_t limit = 0);

/// The same from a regular file, read piece by piece: memory grows with the prompts kept, not with
/// the file.
PromptSet load_prompts(const std::string& path, std::int64_t limit = 0);

/// `count` prompts of exactly `tokens` random ids in [0, vocab_size), a function of `seed` alone:
/// the ids of a prompt do not depend on `count`, and its first ids not on `tokens`. Throws
/// std::invalid_argument unless all are positive and there are at most 2^28 ids.
PromptSet synthetic_prompts(std::int64_t tokens, std::int64_t count, std::int64_t vocab_size,
                            std::uint64_t seed);

}  // namespace chunkstate
