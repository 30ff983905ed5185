// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer.hpp"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "core/byte_pair_merges.hpp"
#include "core/errors.hpp"
#include "core/input_file.hpp"
#include "core/split_expression.hpp"
#include "core/tokenizer_file.hpp"
#include "core/utf8.hpp"

namespace chunkstate {
namespace {

constexpr std::size_t max_text_bytes = std::size_t{1} << 30;
constexpr std::size_t cache_slots = std::size_t{1} << 14;
constexpr std::size_t max_cached_bytes = 64;

std::uint64_t hash_of(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }

/// Finds the id of a piece that is a vocabulary entry. Open addressing over the tokens' own bytes.
class PieceTable {
 public:
  explicit PieceTable(const std::vector<TokenizerFile::Token>& tokens) : tokens_(tokens) {
    std::size_t slots = 16;
    while (slots < 2 * tokens.size()) slots *= 2;
    ids_.assign(slots, -1);
    for (std::size_t id = 0; id < tokens.size(); ++id) {
      if (!tokens[id].in_vocabulary) continue;
      std::size_t i = hash_of(tokens[id].bytes) & (slots - 1);
      while (ids_[i] >= 0) i = (i + 1) & (slots - 1);
      ids_[i] = static_cast<std::int32_t>(id);
    }
  }

  /// -1: not found.
  std::int32_t find(std::string_view piece, std::uint64_t hash) const {
    std::size_t i = hash & (ids_.size() - 1);
    while (ids_[i] >= 0 && tokens_[static_cast<std::size_t>(ids_[i])].bytes != piece) {
      i = (i + 1) & (ids_.size() - 1);
    }
    return ids_[i];
  }

 private:
  const std::vector<TokenizerFile::Token>& tokens_;
  std::vector<std::int32_t> ids_;
};

/// Finds added tokens in a text: the leftmost, of these the longest.
class AddedTokenFinder {
 public:
  struct Found {
    std::size_t begin = 0;
    std::size_t bytes = 0;
    std::int32_t id = 0;
  };

  void add(const AddedToken& token) {
    ids_.emplace(token.content, token.id);
    lengths_.push_back(token.content.size());
    std::sort(lengths_.begin(), lengths_.end(), std::greater<>());
    lengths_.erase(std::unique(lengths_.begin(), lengths_.end()), lengths_.end());
    const auto first = static_cast<unsigned char>(token.content[0]);
    if (token.content.size() > 1) {
      starts_.set(first * 256U + static_cast<unsigned char>(token.content[1]));
    } else {
      for (unsigned second = 0; second < 256; ++second) starts_.set(first * 256U + second);
      single_byte_ = true;
    }
  }

  std::optional<Found> find(std::string_view text, std::size_t from) const {
    if (ids_.empty()) return std::nullopt;
    for (std::size_t i = from; i < text.size(); ++i) {
      if (!may_start(text, i)) continue;
      for (const std::size_t bytes : lengths_) {
        if (bytes > text.size() - i) continue;
        const auto found = ids_.find(text.substr(i, bytes));
        if (found != ids_.end()) return Found{i, bytes, found->second};
      }
    }
    return std::nullopt;
  }

 private:
  bool may_start(std::string_view text, std::size_t i) const {
    if (i + 1 == text.size()) return single_byte_;
    return starts_[static_cast<unsigned char>(text[i]) * 256U +
                   static_cast<unsigned char>(text[i + 1])];
  }

  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return hash_of(text); }
  };
  std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>> ids_;
  std::vector<std::size_t> lengths_;  // descending
  std::bitset<256 * 256> starts_;     // by the first two bytes
  bool single_byte_ = false;
};

/// What one call of encode needs beside the tokenizer; kept between calls for its cache.
struct Scratch {
  struct CachedPiece {
    std::string piece;
    std::vector<std::int32_t> ids;
  };
  SplitScratch split;
  std::vector<std::vector<std::size_t>> ends;  // by split expression
  std::vector<std::int32_t> merged;
  std::vector<CachedPiece> cache = std::vector<CachedPiece>(cache_slots);
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
        AddedToken normalized = token;
        normalized.content = file.normalizer.apply(token.content, max_text_bytes);
        if (!normalized.content.empty()) finders[1].add(normalized);
      } else {
        finders[0].add(token);
      }
      for (const char* content : {"<|end_of_text|>", "<|eot_id|>", "<|endoftext|>", "</s>"}) {
        if (token.content == content) end_of_text.push_back(token.id);
      }
    }
    std::sort(end_of_text.begin(), end_of_text.end());
    end_of_text.erase(std::unique(end_of_text.begin(), end_of_text.end()), end_of_text.end());
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
    const std::uint64_t hash = hash_of(piece);
    if (file.ignore_merges) {
      const std::int32_t whole = pieces.find(piece, hash);
      if (whole >= 0) {
        ids.push_back(whole);
        return;
      }
    }
    Scratch::CachedPiece& cached = scratch.cache[hash % cache_slots];
    if (cached.piece != piece) {
      merge(piece, scratch.merged);
      if (piece.size() > max_cached_bytes) {
        ids.insert(ids.end(), scratch.merged.begin(), scratch.merged.end());
        return;
      }
      cached.piece = piece;
      cached.ids = scratch.merged;
    }
    ids.insert(ids.end(), cached.ids.begin(), cached.ids.end());
  }

  void merge(std::string_view piece, std::vector<std::int32_t>& tokens) const {
    tokens.clear();
    if (file.byte_fallback) {
      add_characters(piece, tokens);
    } else {
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

  /// Of each character its token, or those of its bytes, or the unknown token, which waits for the
  /// next character that is a token.
  void add_characters(std::string_view piece, std::vector<std::int32_t>& tokens) const {
    bool unknown = false;
    for (std::size_t end = 0; end < piece.size();) {
      const std::size_t begin = end;
      const auto found = file.character_tokens.find(next_code_point(piece, end));
      if (found != file.character_tokens.end()) {
        if (unknown) tokens.push_back(file.unknown);
        unknown = false;
        tokens.push_back(found->second);
        continue;
      }
      const std::string_view character = piece.substr(begin, end - begin);
      const auto token_of = [&](char byte) {
        return file.byte_tokens[static_cast<unsigned char>(byte)];
      };
      if (std::all_of(character.begin(), character.end(),
                      [&](char byte) { return token_of(byte) >= 0; })) {
        for (const char byte : character) tokens.push_back(token_of(byte));
        continue;
      }
      if (file.unknown < 0) {
        throw InputError("tokenizer: the vocabulary has no token for " + in_quotes(character) +
                         ", nor for each of its bytes, and no unk_token");
      }
      if (unknown && !file.fuse_unknown) tokens.push_back(file.unknown);
      unknown = true;
    }
    if (unknown) tokens.push_back(file.unknown);
  }

  /// A run of byte tokens is text if it is valid UTF-8; if not, each of them is a U+FFFD.
  std::string decode_with_fallback(std::span<const std::int32_t> ids) const {
    std::string text, run;
    const auto end_run = [&] {
      if (valid_utf8_prefix(run) == run.size()) {
        text += run;
      } else {
        for (std::size_t i = 0; i < run.size(); ++i) append_utf8(text, 0xFFFD);
      }
      run.clear();
    };
    for (const std::int32_t id : ids) {
      const std::string_view bytes = bytes_of_token(id);
      if (bytes.empty()) continue;
      if (file.tokens[static_cast<std::size_t>(id)].is_byte) {
        run += bytes;
        continue;
      }
      end_run();
      text += bytes;
    }
    end_run();
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
  std::mutex shared_mutex;
  std::optional<Scratch> shared_scratch;
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
  // A second thread gets a scratch without a warm cache: results are the same.
  const std::unique_lock lock(impl_->shared_mutex, std::try_to_lock);
  std::optional<Scratch> own;
  std::optional<Scratch>& scratch = lock.owns_lock() ? impl_->shared_scratch : own;
  if (!scratch) scratch.emplace();
  scratch->ends.resize(impl_->splits.size());

  std::vector<std::int32_t> ids;
  ids.reserve(text.size() / 4 + 2);
  if (add_special_tokens) ids = impl_->file.prefix;
  impl_->encode_around_added(text, 0, *scratch, ids);
  if (add_special_tokens) {
    ids.insert(ids.end(), impl_->file.suffix.begin(), impl_->file.suffix.end());
  }
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
