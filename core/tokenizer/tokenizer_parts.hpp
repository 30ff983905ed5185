// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "core/json_input.hpp"
#include "core/tokenizer/tokenizer_file.hpp"

namespace chunkstate {

// Parts of a tokenizer.json. All throw InputError; `where` is used in messages.

/// Calls `visit` for each element of a Sequence, which names its list after its kind.
template <class Visit>
void for_each_element(const JsonObject& sequence, const char* list, Visit&& visit) {
  for (const nlohmann::json& element : sequence.array(list, 64)) visit(element);
}

/// Throws: the object's type, and what would be supported.
[[noreturn]] void refuse_type(const JsonObject& object, const std::string& supported);

/// The pattern of a Replace, which must be a text.
const std::string& replaced_text(const JsonObject& replace);

/// Prepend, Replace or a Sequence of them where `result.byte_fallback` is set, else nothing.
void add_normalizer(const nlohmann::json& value, const std::string& where, TokenizerFile& result);

/// Split, Digits, ByteLevel or a Sequence of them. Returns whether a ByteLevel was among them.
bool add_pre_tokenizer(const nlohmann::json& value, const std::string& where,
                       TokenizerFile& result);

/// Refuses what is neither ByteLevel nor a Sequence of it.
void check_byte_level_decoder(const nlohmann::json& value, const std::string& where);

/// The decoder with byte fallback: Replace, ByteFallback, Fuse and, if spaces are to be dropped,
/// Strip. Returns what the Replace does.
TextNormalizer::Step read_fallback_decoder(const JsonObject& decoder, TokenizerFile& result);

/// The template's tokens, whose ids `result` must have.
void add_post_processor(const nlohmann::json& value, const std::string& where,
                        TokenizerFile& result);

}  // namespace chunkstate
