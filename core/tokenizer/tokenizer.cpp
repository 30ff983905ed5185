// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <mutex>

#include "core/errors.hpp"
#include "core/input_file.hpp"
#include "core/tokenizer/added_tokens.hpp"
#include "core/tokenizer/byte_fallback.hpp"
#include "core/tokenizer/byte_pair_merges.hpp"
#include "core/tokenizer/piece_lookup.hpp"
#include "core/tokenizer/split_expression.hpp"
#include "core/tokenizer/tokenizer_file.hpp"
#include "core/utf8.hpp"

namespace chunkstate {
namespace {

constexpr std::size_t max_text_bytes = std::size_t{1} << 30;

/// What one call of encode needs beside the tokenizer; kept between calls for its cache.
struct Scratch {
  SplitScratch split;
  std::vector<std::vector<std::size_t>> ends;  // by split expression
  std::vector<std::int32_t> merged;
  PieceCache cache;
};

}  // namespace

struct Tokenizer::Impl {
  Impl(TokenizerFile parsed, const std::string& name, std::int64_t vocab_size_)
      : file(std::move(parsed)), vocab_size(vocab_size_), pieces(file.tokens), merges(file.merges) {
    for (const std::string& pattern : file.split_patterns) {
      splits.emplace_back(pattern, name + ": pre_tokenizer");
    }
    for (const AddedToken& token : file.added) {
      if (token.normalized) {
        const std::string normalized = file.normalizer.apply(token.content, max_text_bytes);
        if (!normalized.empty()) finders[1].add(normalized, token.id);
      } else {
        finders[0].add(token.content, token.id);
      }
      for (const char* content : {"<|end_of_text|>", "<|eot_id|>", "<|endoftext|>", "</s>"}) {
        if (token.content == content) end_of_text.push_back(token.id);
      }
    }
    std::sort(end_of_text.begin(), end_of_text.end());
    end_of_text.erase(std::unique(end_of_text.begin(), end_of_text.end()), end_of_text.end());
  }

  std::unique_ptr<Scratch> take_scratch() {
    std::unique_ptr<Scratch> scratch;
    {
      const std::lock_guard lock(idle_mutex);
      if (!idle.empty()) {
        scratch = std::move(idle.back());
        idle.pop_back();
      }
    }
    if (!scratch) {
      scratch = std::make_unique<Scratch>();
      scratch->ends.resize(splits.size());
    }
    return scratch;
  }

  /// Cuts added tokens of pass `pass` out of `text` and hands on what lies between them.
  void encode_around_added(std::string_view text, std::size_t pass, Scratch& scratch,
                           std::vector<std::int32_t>& ids) const {
    if (pass == finders.size()) {
      split(text, 0, scratch, ids);
      return;
    }
    std::string normalized;
    if (pass == 1 && file.normalizer.steps() > 0) {
      text = normalized = file.normalizer.apply(text, max_text_bytes);
    }
    std::size_t done = 0;
    while (const auto found = finders[pass].find(text, done)) {
      encode_around_added(text.substr(done, found->begin - done), pass + 1, scratch, ids);
      ids.push_back(found->id);
      done = found->begin + found->bytes;
    }
    encode_around_added(text.substr(done), pass + 1, scratch, ids);
  }

  void split(std::string_view text, std::size_t stage, Scratch& scratch,
             std::vector<std::int32_t>& ids) const {
    if (text.empty()) return;
    if (file.byte_fallback) {
      for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = file.borders.piece_end(text, begin);
        encode_piece(text.substr(begin, end - begin), scratch, ids);
        begin = end;
      }
      return;
    }
    if (stage == splits.size()) {
      encode_piece(text, scratch, ids);
      return;
    }
    std::vector<std::size_t>& ends = scratch.ends[stage];
    ends.clear();
    splits[stage].split(text, scratch.split, ends);
    std::size_t begin = 0;
    for (const std::size_t end : ends) {
      split(text.substr(begin, end - begin), stage + 1, scratch, ids);
      begin = end;
    }
  }

  void encode_piece(std::string_view piece, Scratch& scratch,
                    std::vector<std::int32_t>& ids) const {
    const std::uint64_t hash = hash_of_piece(piece);
    std::span<const std::int32_t> tokens = scratch.cache.find(piece, hash);
    if (tokens.empty()) {
      merge(piece, hash, scratch.merged);
      tokens = scratch.merged;
      scratch.cache.put(piece, hash, tokens);
    }
    ids.insert(ids.end(), tokens.begin(), tokens.end());
  }

  void merge(std::string_view piece, std::uint64_t hash, std::vector<std::int32_t>& tokens) const {
    tokens.clear();
    if (file.byte_fallback) {
      add_characters(file, piece, tokens);
    } else {
      const std::int32_t whole = file.ignore_merges ? pieces.find(piece, hash) : -1;
      if (whole >= 0) {
        tokens.push_back(whole);
        return;
      }
      add_bytes(piece, tokens);
    }
    merges.apply(tokens);
  }

  void add_bytes(std::string_view piece, std::vector<std::int32_t>& tokens) const {
    for (const char byte : piece) {
      const std::int32_t id = file.byte_tokens[static_cast<unsigned char>(byte)];
      if (id < 0) {
        throw InputError("tokenizer: the vocabulary has no token for byte " +
                         std::to_string(static_cast<unsigned char>(byte)) + " of '" +
                         printable(piece) + "'");
      }
      tokens.push_back(id);
    }
  }

  std::string decode_with_fallback(std::span<const std::int32_t> ids) const {
    FallbackText joined;
    for (const std::int32_t id : ids) {
      const std::string_view bytes = bytes_of_token(id);
      if (bytes.empty()) continue;
      joined.add(bytes, file.tokens[static_cast<std::size_t>(id)].is_byte);
    }
    const std::string text = joined.take();
    const std::size_t first = std::min(text.find_first_not_of(' '), text.size());
    return text.substr(std::min(first, file.stripped_spaces));
  }

  std::string_view bytes_of_token(std::int32_t id) const {
    if (id >= 0 && static_cast<std::size_t>(id) < file.tokens.size()) {
      return file.tokens[static_cast<std::size_t>(id)].bytes;
    }
    if (id >= 0 && id < vocab_size) return {};
    throw InputError(
        "token id " + std::to_string(id) + " is not in the vocabulary, expected 0 to " +
        std::to_string(std::max(vocab_size, static_cast<std::int64_t>(file.tokens.size())) - 1));
  }

  TokenizerFile file;
  std::int64_t vocab_size;
  PieceTable pieces;
  BytePairMerges merges;
  std::vector<SplitExpression> splits;
  std::array<AddedTokenFinder, 2>
      finders;  // not normalized ones first, as their text is cut out first
  std::vector<std::int32_t> end_of_text;
  std::mutex idle_mutex;
  std::vector<std::unique_ptr<Scratch>> idle;  // as many as threads have been in encode at once
};

Tokenizer::Tokenizer(std::string_view json, const std::string& file, std::int64_t vocab_size)
    : impl_(
          std::make_unique<Impl>(parse_tokenizer_file(json, file, vocab_size), file, vocab_size)) {}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool add_special_tokens) const {
  if (text.size() > max_text_bytes) {
    throw InputError("text has " + std::to_string(text.size()) + " bytes, expected at most " +
                     std::to_string(max_text_bytes));
  }
  const std::size_t valid = valid_utf8_prefix(text);
  if (valid != text.size()) {
    throw InputError("text is not valid UTF-8 at byte " + std::to_string(valid));
  }
  std::unique_ptr<Scratch> scratch = impl_->take_scratch();
  std::vector<std::int32_t> ids;
  ids.reserve(text.size() / 4 + 2);
  if (add_special_tokens) ids = impl_->file.prefix;
  impl_->encode_around_added(text, 0, *scratch, ids);
  if (add_special_tokens) {
    ids.insert(ids.end(), impl_->file.suffix.begin(), impl_->file.suffix.end());
  }
  const std::lock_guard lock(impl_->idle_mutex);
  impl_->idle.push_back(std::move(scratch));
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const {
  if (impl_->file.byte_fallback) return impl_->decode_with_fallback(ids);
  std::string bytes;
  for (const std::int32_t id : ids) bytes += impl_->bytes_of_token(id);
  return replace_invalid_utf8(bytes);
}

std::string_view Tokenizer::token_bytes(std::int32_t id) const { return impl_->bytes_of_token(id); }

const std::vector<std::int32_t>& Tokenizer::end_of_text() const { return impl_->end_of_text; }

std::int64_t Tokenizer::size() const {
  return static_cast<std::int64_t>(impl_->file.tokens.size());
}

Tokenizer read_tokenizer(const std::filesystem::path& file, std::int64_t vocab_size) {
  return Tokenizer(read_input_file(file, max_tokenizer_bytes), file.string(), vocab_size);
}

}  // namespace chunkstate
