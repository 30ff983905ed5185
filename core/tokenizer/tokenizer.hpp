// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace chunkstate {

/// A BPE tokenizer as described by a Hugging Face tokenizer.json, byte-level or with byte fallback
/// (TokenizerFile says what that is). Its functions may be called by several threads.
class Tokenizer {
 public:
  /// `json` is the file's content, `file` its name for messages. `vocab_size`, if not 0, bounds the
  /// ids. Throws InputError.
  Tokenizer(std::string_view json, const std::string& file, std::int64_t vocab_size = 0);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  /// Token ids of UTF-8 text. Added tokens are cut out first, longest match. With
  /// `add_special_tokens` the post-processor's template is applied (it prepends begin_of_text).
  /// Throws InputError for invalid UTF-8.
  std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens) const;

  /// The text of the ids: the bytes of all tokens joined, invalid UTF-8 replaced by U+FFFD (maximal
  /// subparts, as Python's errors="replace"; with byte fallback, where only bytes can be invalid,
  /// each byte of a run of them that is). The space that begins a text is no part of it where the
  /// file's decoder says so. An id below `vocab_size` that no token has is no
  /// text. Throws InputError for a negative id and for one that is neither below `vocab_size` nor
  /// below size().
  std::string decode(std::span<const std::int32_t> ids) const;

  /// The bytes of one token, not checked to be UTF-8: what streaming output joins. Errors as for
  /// decode().
  std::string_view token_bytes(std::int32_t id) const;

  /// Ids that end a text: the added tokens <|end_of_text|>, <|eot_id|>, <|endoftext|>, </s>, found
  /// by content, not from config.json. Ascending.
  const std::vector<std::int32_t>& end_of_text() const;

  /// Largest id + 1.
  std::int64_t size() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The tokenizer of a tokenizer.json of at most 64 MiB. Throws InputError.
Tokenizer read_tokenizer(const std::filesystem::path& file, std::int64_t vocab_size = 0);

}  // namespace chunkstate
