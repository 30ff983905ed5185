// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer/tokenizer_parts.hpp"

#include "core/utf8.hpp"

namespace chunkstate {
namespace {

using nlohmann::json;

constexpr std::size_t max_split_patterns = 16;
constexpr const char* gpt2_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::size_t max_normalizer_steps = 4;  // each of which can multiply the length of a text
constexpr std::size_t max_replacement_bytes = 16;  // by this

std::int32_t known_id(const json& value, const std::string& what, const TokenizerFile& result) {
  return static_cast<std::int32_t>(
      checked_integer(value, what, 0, static_cast<std::int64_t>(result.tokens.size()) - 1));
}

void add_template(const JsonObject& object, TokenizerFile& result) {
  std::vector<std::int32_t> before, after;
  bool text_seen = false;
  const json no_tokens = json::object();
  const json* special = object.find("special_tokens");
  const JsonObject special_tokens(special == nullptr ? no_tokens : *special,
                                  object.where() + ": special_tokens");
  for (const json& element : object.array("single", 64)) {
    const JsonObject part(element, object.where() + ": single");
    if (part.find("Sequence") != nullptr) {
      if (text_seen) part.fail("holds two Sequences, expected one");
      text_seen = true;
      continue;
    }
    const JsonObject token(part.at("SpecialToken"), part.where() + ": SpecialToken");
    const std::string& name = token.string("id");
    const JsonObject entry(special_tokens.at(name.c_str()),
                           special_tokens.where() + ": '" + printable(name) + "'");
    for (const json& id : entry.array("ids", 64)) {
      (text_seen ? after : before).push_back(known_id(id, entry.where() + ": id", result));
    }
  }
  if (!text_seen) object.fail("single has no Sequence, expected one");
  result.prefix.insert(result.prefix.begin(), before.begin(), before.end());
  result.suffix.insert(result.suffix.end(), after.begin(), after.end());
}

void add_splits(const json& value, const std::string& where, TokenizerFile& result,
                bool& byte_level) {
  const JsonObject object(value, where);
  const std::string& type = object.string("type");
  if (type == "Sequence") {
    for_each_element(object, "pretokenizers",
                     [&](const json& e) { add_splits(e, where, result, byte_level); });
    return;
  }
  if (type != "Split" && type != "Digits" && type != "ByteLevel") {
    refuse_type(object, "Sequence, Split, Digits or ByteLevel");
  }
  if (result.split_patterns.size() >= max_split_patterns) {
    object.fail("has more than " + std::to_string(max_split_patterns) + " Splits");
  }
  if (byte_level) object.fail("ByteLevel is followed by " + type + ", expected to be the last");
  if (type == "ByteLevel") {
    byte_level = true;
    if (object.boolean_or("add_prefix_space", true)) {
      object.fail("ByteLevel with add_prefix_space true is not supported, expected false");
    }
    if (object.boolean_or("use_regex", true)) result.split_patterns.emplace_back(gpt2_pattern);
    return;
  }
  if (type == "Digits") {
    result.split_patterns.emplace_back(object.boolean_or("individual_digits", false) ? R"(\p{N})"
                                                                                     : R"(\p{N}+)");
    return;
  }
  if (object.string("behavior") != "Isolated" || object.boolean_or("invert", false)) {
    object.fail("Split with behavior '" + printable(object.string("behavior")) +
                "' or invert is not supported, expected 'Isolated' and false");
  }
  const JsonObject pattern(object.at("pattern"), object.where() + ": pattern");
  result.split_patterns.push_back(pattern.string("Regex"));
}

}  // namespace

void refuse_type(const JsonObject& object, const std::string& supported) {
  object.fail("type '" + printable(object.string("type")) + "' is not supported, expected " +
              supported);
}

const std::string& replaced_text(const JsonObject& replace) {
  const JsonObject pattern(replace.at("pattern"), replace.where() + ": pattern");
  const std::string& text = pattern.string("String");
  if (text.empty()) pattern.fail("String is empty, expected some text");
  return text;
}

void add_normalizer(const json& value, const std::string& where, TokenizerFile& result) {
  const JsonObject object(value, where);
  const std::string& type = object.string("type");
  if (type == "Sequence") {
    for_each_element(object, "normalizers",
                     [&](const json& e) { add_normalizer(e, where, result); });
    return;
  }
  if (!result.byte_fallback) refuse_type(object, "null");
  if (type != "Prepend" && type != "Replace") refuse_type(object, "Sequence, Prepend or Replace");
  TextNormalizer::Step step;
  if (type == "Prepend") {
    step.content = object.string("prepend");
  } else {
    step = {replaced_text(object), object.string("content")};
  }
  if (step.content.size() > max_replacement_bytes) {
    object.fail("content has " + std::to_string(step.content.size()) + " bytes, expected at most " +
                std::to_string(max_replacement_bytes));
  }
  result.normalizer.add(std::move(step));
  if (result.normalizer.steps() > max_normalizer_steps) {
    object.fail("is the normalizer's step " + std::to_string(result.normalizer.steps()) +
                ", expected at most " + std::to_string(max_normalizer_steps));
  }
}

bool add_pre_tokenizer(const json& value, const std::string& where, TokenizerFile& result) {
  bool byte_level = false;
  add_splits(value, where, result, byte_level);
  return byte_level;
}

void check_byte_level_decoder(const json& value, const std::string& where) {
  const JsonObject object(value, where);
  if (object.string("type") == "Sequence") {
    for_each_element(object, "decoders",
                     [&](const json& e) { check_byte_level_decoder(e, where); });
  } else if (object.string("type") != "ByteLevel") {
    refuse_type(object, "ByteLevel");
  }
}

TextNormalizer::Step read_fallback_decoder(const JsonObject& decoder, TokenizerFile& result) {
  if (decoder.string("type") != "Sequence") {
    refuse_type(decoder, "a Sequence of Replace, ByteFallback, Fuse and Strip");
  }
  const json& list = decoder.array("decoders", 8);
  constexpr const char* types[] = {"Replace", "ByteFallback", "Fuse", "Strip"};
  if (list.size() < 3 || list.size() > 4) {
    decoder.fail("decoders", list, "Replace, ByteFallback, Fuse and Strip");
  }
  TextNormalizer::Step decoded;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const JsonObject object(list[i], decoder.where() + ": decoder " + std::to_string(i));
    if (object.string("type") != types[i]) refuse_type(object, types[i]);
    if (i == 0) decoded = {replaced_text(object), object.string("content")};
    if (i < 3) continue;
    if (object.string("content") != " ") object.fail("content", object.at("content"), "a space");
    if (object.integer("stop", 0, 1) != 0) object.fail("stop", object.at("stop"), "0");
    result.stripped_spaces = static_cast<std::size_t>(object.integer("start", 0, 1024));
  }
  return decoded;
}

void add_post_processor(const json& value, const std::string& where, TokenizerFile& result) {
  const JsonObject object(value, where);
  const std::string& type = object.string("type");
  if (type == "Sequence") {
    for_each_element(object, "processors",
                     [&](const json& e) { add_post_processor(e, where, result); });
  } else if (type == "TemplateProcessing") {
    add_template(object, result);
  } else if (type != "ByteLevel") {  // ByteLevel moves offsets only
    refuse_type(object, "Sequence, ByteLevel or TemplateProcessing");
  }
}

}  // namespace chunkstate
