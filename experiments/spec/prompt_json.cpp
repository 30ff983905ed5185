// SPDX-License-Identifier: Apache-2.0
#include "experiments/spec/prompt_json.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "core/errors.hpp"

namespace chunkstate {
namespace {

using Json = nlohmann::json;

constexpr std::size_t max_depth = 64;
constexpr std::size_t max_extra_names = 256;

/// nlohmann's sentence without its prefix and without the text it read last, which can be 16 MiB
/// long.
std::string reason_of(std::string text) {
  if (text.starts_with("[json.")) text.erase(0, text.find("] ") + 2);
  if (text.starts_with("parse error at ")) text.erase(0, text.find(": ") + 2);
  const std::size_t begin = text.find("; last read: '");
  const std::size_t end = text.rfind('\'');
  if (begin != std::string::npos && end > begin) text.erase(begin, end + 1 - begin);
  return text.substr(0, 200);
}

/// JSON events to prompts. Nested values of further fields are kept as compact JSON text.
class PromptEvents : public Json::json_sax_t {
 public:
  /// `item_depth`: open brackets around a prompt. `line` gives the line now being read.
  PromptEvents(PromptCollector& prompts, std::size_t item_depth, std::function<std::int64_t()> line)
      : prompts_(prompts), item_depth_(item_depth), line_(std::move(line)) {}

  bool null() override { return value("null", Type::null); }
  bool boolean(bool on) override { return value(on ? "true" : "false", Type::boolean); }
  bool number_integer(number_integer_t number) override {
    return value(std::to_string(number), Type::integer, number);
  }
  bool number_unsigned(number_unsigned_t number) override {
    if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      return value(std::to_string(number), Type::number);
    }
    return value(std::to_string(number), Type::integer, static_cast<std::int64_t>(number));
  }
  bool number_float(number_float_t, const string_t& text) override {
    return value(text, Type::number);
  }
  bool string(string_t& text) override {
    check_text(text);
    if (in_field() && (field_ == "prompt" || field_ == "answer" || field_ == "id")) {
      return take_text(std::move(text));
    }
    return value(Json(text).dump(), Type::text);
  }
  bool binary(binary_t&) override { return false; }  // JSON text has none

  bool start_object(std::size_t) override {
    if (levels_.size() == item_depth_) {
      prompt_ = {};
      first_line_ = line_();
    } else {
      value("{", Type::object);
    }
    open('}');
    return true;
  }
  bool end_object() override {
    close();
    if (levels_.size() != item_depth_) return true;
    if (prompt_.text.empty()) fail("found no key 'prompt', expected one");
    prompts_.add(std::move(prompt_), first_line_);
    if (on_item) on_item();
    return !prompts_.is_full();
  }
  bool start_array(std::size_t) override {
    if (!levels_.empty() || item_depth_ == 0) value("[", Type::list);
    open(']');
    return true;
  }
  bool end_array() override {
    close();
    return true;
  }
  bool key(string_t& name) override {
    check_text(name);
    Level& level = levels_.back();
    if (!level.keys.insert(name).second) fail(fmt::format("duplicate key {}", shown(name)));
    if (levels_.size() == item_depth_ + 1) {
      field_ = name;
    } else {
      extra() += fmt::format("{}{}:", level.is_first ? "" : ",", Json(name).dump());
      level.is_first = false;
    }
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const Json::exception& error) override {
    const std::string reason = reason_of(error.what());
    if (item_depth_ == 0) {
      fail(fmt::format("not valid JSON: {} (byte {} of the line)", reason, position));
    }
    // The reader is already behind the character that the parser looked at last, perhaps a newline.
    const char* line = std::strstr(error.what(), "at line ");
    prompts_.fail(line != nullptr ? std::strtoll(line + 8, nullptr, 10) : line_(),
                  "not valid JSON: " + reason);
  }

  std::function<void()> on_item;  // called after each prompt

 private:
  enum class Type : std::uint8_t { null, boolean, integer, number, text, list, object };
  struct Level {
    char closing = '}';
    bool is_first = true;
    std::unordered_set<std::string> keys;
  };

  [[noreturn]] void fail(const std::string& message) const { prompts_.fail(line_(), message); }

  static std::string shown(const std::string& name) {
    return Json(name.size() <= 60 ? name : "...").dump();
  }
  static const char* name_of(Type type) {
    static constexpr const char* names[] = {"null", "a boolean", "an integer", "a number",
                                            "text", "a list",    "an object"};
    return names[static_cast<std::size_t>(type)];
  }
  void check_text(const std::string& text) const {
    if (text.find('\0') != std::string::npos)
      fail("found a NUL character in a text, expected none");
  }
  bool in_field() const { return levels_.size() == item_depth_ + 1; }
  std::string& extra() { return prompt_.extra.back().second; }

  void open(char closing) {
    if (levels_.size() == max_depth)
      fail(fmt::format("found nesting deeper than {} levels", max_depth));
    levels_.push_back({closing, true, {}});
  }
  void close() {
    const char closing = levels_.back().closing;
    levels_.pop_back();
    if (levels_.size() > item_depth_) extra() += closing;
  }

  bool take_text(std::string text) {
    if (field_ == "prompt") {
      if (text.empty()) fail("prompt: found an empty text, expected one to continue");
      prompt_.text = std::move(text);
    } else if (field_ == "answer") {
      prompt_.answer = std::move(text);
    } else {
      if (text.empty()) fail("id: found an empty text, expected a name (or no id)");
      prompt_.id = std::move(text);
    }
    return true;
  }

  bool value(std::string_view json, Type type, std::int64_t number = 0) {
    if (levels_.size() <= item_depth_)
      fail(fmt::format("found {}, expected an object with the key 'prompt'", name_of(type)));
    if (!in_field()) {
      Level& level = levels_.back();
      if (level.closing == ']' && !std::exchange(level.is_first, false)) extra() += ',';
      extra() += json;
    } else if (field_ == "token_len" || field_ == "num_chunks") {
      if (type == Type::null) return true;
      if (type != Type::integer || number < 0)
        fail(fmt::format("{}: found {}, expected an integer of at least 0", field_,
                         type == Type::integer ? std::string(json) : name_of(type)));
      (field_ == "token_len" ? prompt_.token_len : prompt_.num_chunks) = number;
    } else if (field_ == "prompt" || field_ == "answer" || field_ == "id") {
      if (type == Type::null && field_ != "prompt") return true;
      fail(fmt::format("{}: found {}, expected text", field_, name_of(type)));
    } else {
      prompt_.extra.emplace_back(field_, json);
    }
    return true;
  }

  PromptCollector& prompts_;
  std::size_t item_depth_;
  std::function<std::int64_t()> line_;
  std::int64_t first_line_ = 0;
  std::vector<Level> levels_;
  std::string field_;
  Prompt prompt_;
};

/// Feeds nlohmann's parser from a ByteReader and stops it at a prompt that is too long.
class CappedIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = char;

  struct Budget {
    ByteReader& bytes;
    PromptCollector& prompts;
    std::int64_t item_start = 0;
  };

  CappedIterator() = default;
  explicit CappedIterator(Budget& budget) : budget_(&budget) {}

  char operator*() const { return static_cast<char>(budget_->bytes.peek()); }
  CappedIterator& operator++() {
    budget_->bytes.skip();
    if (budget_->bytes.taken() - budget_->item_start >
        static_cast<std::int64_t>(max_prompt_bytes)) {
      budget_->prompts.fail(budget_->bytes.line(),
                            "found more than 16 MiB, expected at most so much for a prompt");
    }
    return *this;
  }
  CappedIterator operator++(int) = delete;
  bool operator==(const CappedIterator& other) const { return at_end() == other.at_end(); }
  bool operator!=(const CappedIterator& other) const { return !(*this == other); }

 private:
  bool at_end() const { return budget_ == nullptr || budget_->bytes.peek() < 0; }

  Budget* budget_ = nullptr;
};

}  // namespace

void PromptCollector::fail(std::int64_t line, const std::string& message) const {
  throw InputError(fmt::format("{}:{}: item {}: {}", file_, line, size() + 1, message));
}

void PromptCollector::add(Prompt prompt, std::int64_t line) {
  if (prompt.id.empty()) prompt.id = fmt::format("item-{}", size() + 1);
  const auto [other, is_new] = item_of_id_.emplace(prompt.id, size() + 1);
  if (!is_new) {
    fail(line,
         fmt::format(
             "duplicate id {} (first at item {})",
             Json(prompt.id.substr(0, 60)).dump(-1, ' ', false, Json::error_handler_t::replace),
             other->second));
  }
  for (const auto& [name, value] : prompt.extra) {
    extra_names_.insert(name);
    if (extra_names_.size() > max_extra_names) {
      fail(line, fmt::format("found more than {} kinds of fields, expected at most so many",
                             max_extra_names));
    }
  }
  prompts_.push_back(std::move(prompt));
}

void read_prompt_list(ByteReader& bytes, PromptCollector& prompts) {
  CappedIterator::Budget budget{bytes, prompts, bytes.taken()};
  PromptEvents events(prompts, 1, [&] { return bytes.line(); });
  events.on_item = [&] { budget.item_start = bytes.taken(); };
  Json::sax_parse(CappedIterator(budget), CappedIterator(), &events);
}

void read_prompt_line(const std::string& text, std::int64_t line, PromptCollector& prompts) {
  PromptEvents events(prompts, 0, [line] { return line; });
  Json::sax_parse(text, &events);
}

}  // namespace chunkstate
