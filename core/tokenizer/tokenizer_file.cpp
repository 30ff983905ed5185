// SPDX-License-Identifier: Apache-2.0
#include "core/tokenizer/tokenizer_file.hpp"

#include <nlohmann/json.hpp>
#include <unordered_map>

#include "core/errors.hpp"
#include "core/json_input.hpp"
#include "core/tokenizer/byte_characters.hpp"
#include "core/tokenizer/tokenizer_parts.hpp"
#include "core/utf8.hpp"

namespace chunkstate {
namespace {

using nlohmann::json;

constexpr JsonLimits tokenizer_limits{max_tokenizer_bytes, std::size_t{8} << 20, 32};
constexpr std::int64_t max_ids = std::int64_t{1} << 21;
constexpr std::size_t max_added_tokens = 65536;
constexpr std::size_t max_added_bytes = 1024;

class Reader {
 public:
  Reader(const JsonObject& root, const std::string& file, std::int64_t vocab_size)
      : root_(root), file_(file), id_limit_(vocab_size > 0 ? vocab_size : max_ids) {}

  TokenizerFile run() {
    for (const char* key : {"truncation", "padding"}) {
      if (root_.find(key) != nullptr)
        root_.fail(key, *root_.find(key), "null: it is not supported");
    }
    const json* model = root_.find("model");
    result_.byte_fallback =
        model != nullptr && model->is_object() &&
        JsonObject(*model, file_ + ": model").boolean_or("byte_fallback", false);
    if (const json* normalizer = root_.find("normalizer")) {
      add_normalizer(*normalizer, file_ + ": normalizer", result_);
    }
    if (result_.byte_fallback) {
      if (const json* splits = root_.find("pre_tokenizer")) {
        root_.fail("pre_tokenizer", *splits, "null where the model has byte_fallback");
      }
      decoded_ =
          read_fallback_decoder(JsonObject(root_.at("decoder"), file_ + ": decoder"), result_);
    } else {
      if (!add_pre_tokenizer(root_.at("pre_tokenizer"), file_ + ": pre_tokenizer", result_)) {
        root_.fail(
            "pre_tokenizer has no ByteLevel, and the model no byte_fallback: other BPE is not "
            "supported");
      }
      check_byte_level_decoder(root_.at("decoder"), file_ + ": decoder");
    }
    read_model(JsonObject(root_.at("model"), file_ + ": model"));
    read_added_tokens();
    if (const json* processor = root_.find("post_processor")) {
      add_post_processor(*processor, file_ + ": post_processor", result_);
    }
    return std::move(result_);
  }

 private:
  void read_model(const JsonObject& model) {
    if (model.string_or("type", "BPE") != "BPE") refuse_type(model, "BPE");
    result_.fuse_unknown = model.boolean_or("fuse_unk", false);
    if (result_.fuse_unknown && !result_.byte_fallback) {
      model.fail("fuse_unk true is not supported, expected false");
    }
    if (model.number_or("dropout", 0.0) != 0.0) model.fail("dropout is not supported");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!model.string_or(key, "").empty()) model.fail(std::string(key) + " is not supported");
    }
    result_.ignore_merges = model.boolean_or("ignore_merges", false);
    if (result_.ignore_merges && result_.byte_fallback) {
      model.fail("ignore_merges true with byte_fallback is not supported, expected false");
    }
    read_vocabulary(JsonObject(model.at("vocab"), model.where() + ": vocab"), model.at("vocab"));
    const std::string unknown = model.string_or("unk_token", "");
    if (result_.byte_fallback && !unknown.empty()) {
      const auto found = ids_.find(unknown);
      if (found == ids_.end()) model.fail("unk_token " + in_quotes(unknown) + " is not in vocab");
      result_.unknown = found->second;
    }
    read_merges(model, unknown);
    if (result_.byte_fallback) result_.borders.set_tokens(result_.character_tokens);
  }

  /// A vocabulary entry of the form that starts from characters.
  void add_text(const std::string& text, std::int32_t id, TokenizerFile::Token& token) {
    std::size_t end = 0;
    if (!text.empty()) {
      const char32_t first = next_code_point(text, end);
      if (end == text.size()) result_.character_tokens.emplace(first, id);
    }
    const int byte = fallback_byte(text);
    token.is_byte = byte >= 0;
    token.bytes = token.is_byte ? std::string(1, static_cast<char>(byte))
                                : replace_all(text, decoded_.pattern, decoded_.content);
    // Written with upper-case digits where a text falls back to it.
    if (token.is_byte && text.find_first_of("abcdef", 3) == std::string::npos) {
      result_.byte_tokens[static_cast<std::size_t>(byte)] = id;
    }
  }

  std::int32_t checked_id(const json& value, const std::string& what) const {
    return static_cast<std::int32_t>(checked_integer(value, what, 0, id_limit_ - 1));
  }

  void reserve_id(std::int32_t id) {
    if (static_cast<std::size_t>(id) >= result_.tokens.size()) {
      result_.tokens.resize(static_cast<std::size_t>(id) + 1);
    }
  }

  void read_vocabulary(const JsonObject& checked, const json& vocabulary) {
    std::vector<const std::string*> text_of_id;
    result_.byte_tokens.fill(-1);
    ids_.reserve(vocabulary.size());
    for (const auto& [text, value] : vocabulary.get_ref<const json::object_t&>()) {
      const std::int32_t id =
          checked_id(value, checked.where() + ": id of '" + printable(text) + "'");
      reserve_id(id);
      text_of_id.resize(result_.tokens.size(), nullptr);
      const std::string*& owner = text_of_id[static_cast<std::size_t>(id)];
      if (owner != nullptr) {
        checked.fail("id " + std::to_string(id) + " belongs to '" + printable(*owner) +
                     "' and to '" + printable(text) + "'");
      }
      owner = &text;
      ids_.emplace(text, id);
      TokenizerFile::Token& token = result_.tokens[static_cast<std::size_t>(id)];
      if (result_.byte_fallback) {
        add_text(text, id, token);
        continue;
      }
      token.bytes = bytes_of_token_text(text, token.in_vocabulary);
      if (token.in_vocabulary && token.bytes.size() == 1) {
        result_.byte_tokens[static_cast<unsigned char>(token.bytes[0])] = id;
      }
    }
  }

  std::int32_t merge_token(std::string_view text, std::size_t rank, const char* role) const {
    const auto found = ids_.find(text);
    if (found == ids_.end()) {
      throw InputError(file_ + ": model: merges: merge " + std::to_string(rank) + ": " + role +
                       " '" + printable(text) + "' is not in vocab");
    }
    return found->second;
  }

  /// Whether `text` may be, or contain, what a character becomes that is no token.
  static bool may_replace(std::string_view text, std::string_view unknown) {
    return text.find("<0x") != text.npos || (!unknown.empty() && text.find(unknown) != text.npos);
  }

  void read_merges(const JsonObject& model, const std::string& unknown) {
    const json& merges = model.array("merges", std::size_t{1} << 22);
    result_.merges.reserve(merges.size());
    for (const json& merge : merges) {
      const std::size_t rank = result_.merges.size();
      std::string_view left, right;
      if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        left = merge[0].get_ref<const std::string&>();
        right = merge[1].get_ref<const std::string&>();
      } else if (merge.is_string()) {
        const std::string_view text = merge.get_ref<const std::string&>();
        const std::size_t space = text.find(' ');
        if (space != std::string_view::npos) {
          left = text.substr(0, space);
          right = text.substr(space + 1);
        }
      }
      if (left.empty() || right.empty()) {
        model.fail("merges: merge " + std::to_string(rank) + " is " + describe(merge) +
                   ", expected [\"a\", \"b\"] or \"a b\"");
      }
      const std::string joined = std::string(left) + std::string(right);
      result_.merges.push_back({merge_token(left, rank, "token"), merge_token(right, rank, "token"),
                                merge_token(joined, rank, "the merged token")});
      if (!result_.byte_fallback) continue;
      result_.borders.join(left, right);
      if (may_replace(left, unknown) || may_replace(right, unknown)) result_.borders.join_all();
    }
  }

  void read_added_tokens() {
    if (root_.find("added_tokens") == nullptr) return;
    std::vector<char> taken(result_.tokens.size(), 0);
    for (const auto& [text, id] : ids_) taken[static_cast<std::size_t>(id)] = 1;
    for (const json& element : root_.array("added_tokens", max_added_tokens)) {
      const JsonObject object(element, file_ + ": added_tokens");
      AddedToken token;
      token.content = object.string("content");
      const std::string name = in_quotes(token.content);
      if (token.content.empty()) object.fail("content is empty, expected some text");
      if (token.content.size() > max_added_bytes) {
        object.fail(name + " has " + std::to_string(token.content.size()) +
                    " bytes, expected at most " + std::to_string(max_added_bytes));
      }
      token.id = checked_id(object.at("id"), object.where() + ": id of " + name);
      token.special = object.boolean_or("special", false);
      token.normalized = object.boolean_or("normalized", !token.special);
      for (const char* flag : {"single_word", "lstrip", "rstrip"}) {
        if (object.boolean_or(flag, false)) {
          object.fail(name + ": " + flag + " true is not supported, expected false");
        }
      }
      add(object, name, std::move(token), taken);
    }
  }

  void add(const JsonObject& object, const std::string& name, AddedToken token,
           std::vector<char>& taken) {
    reserve_id(token.id);
    taken.resize(result_.tokens.size(), 0);
    const auto same = ids_.find(token.content);
    const bool is_new = same == ids_.end();
    if (!is_new && same->second != token.id) {
      object.fail("id of " + name + " is " + std::to_string(token.id) +
                  ", but vocab or an earlier entry says " + std::to_string(same->second));
    }
    char& is_taken = taken[static_cast<std::size_t>(token.id)];
    if (is_new && is_taken != 0) {
      object.fail("id " + std::to_string(token.id) + " of " + name + " belongs to another token");
    }
    is_taken = 1;
    TokenizerFile::Token& entry = result_.tokens[static_cast<std::size_t>(token.id)];
    if (is_new) {
      entry.bytes = token.content;
      ids_.emplace(object.string("content"), token.id);
    }
    if (result_.byte_fallback && (is_new || token.normalized)) {
      // The tokenizers package knows such a token by its normalized text.
      const std::string text = token.normalized
                                   ? result_.normalizer.apply(token.content, max_tokenizer_bytes)
                                   : token.content;
      entry = {replace_all(text, decoded_.pattern, decoded_.content)};
    }
    result_.added.push_back(std::move(token));
  }

  const JsonObject& root_;
  const std::string& file_;
  std::int64_t id_limit_;
  TextNormalizer::Step decoded_;  // with byte fallback: what the decoder replaces
  std::unordered_map<std::string_view, std::int32_t> ids_;  // by text; views into the JSON
  TokenizerFile result_;
};

}  // namespace

TokenizerFile parse_tokenizer_file(std::string_view text, const std::string& file,
                                   std::int64_t vocab_size) {
  const json document = parse_json(text, file, tokenizer_limits);
  return Reader(JsonObject(document, file), file, vocab_size).run();
}

}  // namespace chunkstate
