// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer/byte_fallback.hpp"

#include <algorithm>
#include <utility>

#include "core/errors.hpp"
#include "core/utf8.hpp"

namespace chunkstate {

void add_characters(const TokenizerFile& file, std::string_view piece,
                    std::vector<std::int32_t>& tokens) {
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

void FallbackText::add(std::string_view bytes, bool is_byte) {
  if (is_byte) {
    run_ += bytes;
    return;
  }
  end_run();
  text_ += bytes;
}

std::string FallbackText::take() {
  end_run();
  return std::move(text_);
}

void FallbackText::end_run() {
  if (valid_utf8_prefix(run_) == run_.size()) {
    text_ += run_;
  } else {
    for (std::size_t i = 0; i < run_.size(); ++i) append_utf8(text_, 0xFFFD);
  }
  run_.clear();
}

}  // namespace chunkstate
