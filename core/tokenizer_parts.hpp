// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "core/json_input.hpp"
#include "core/tokenizer_file.hpp"

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

/// The template's tokens, whose ids `result` must have.
void add_post_processor(const nlohmann::json& value, const std::string& where,
                        TokenizerFile& result);

}  // namespace chunkstate
