// SPDX-License-Identifier: Apache-2.0
#include "core/json_input.hpp"

#include <utility>
#include <vector>

#include "core/errors.hpp"
#include "core/utf8.hpp"

namespace chunkstate {
namespace {

using nlohmann::json;

/// Builds the document and stops at the first key, level or value too many.
class DocumentBuilder final : public nlohmann::json_sax<json> {
 public:
  DocumentBuilder(const std::string& file, const JsonLimits& limits)
      : file_(file), limits_(limits) {}

  json take() { return std::move(root_); }

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    const auto [member, added] =
        open_.back()->get_ref<json::object_t&>().emplace(std::move(name), nullptr);
    if (!added) throw InputError(file_ + ": key '" + printable(member->first) + "' appears twice");
    member_ = &member->second;
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const json::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..." without the bracket
    const std::string_view text = error.what();
    const std::size_t bracket = text.find("] ");
    throw InputError(
        file_ + ": " +
        printable(bracket == std::string_view::npos ? text : text.substr(bracket + 2), 200));
  }

 private:
  json* place(json value) {
    if (++values_ > limits_.values) {
      throw InputError(file_ + ": has more than " + std::to_string(limits_.values) + " values");
    }
    json* target = &root_;
    if (!open_.empty() && open_.back()->is_array()) {
      target = &open_.back()->emplace_back();
    } else if (!open_.empty()) {
      target = member_;
    }
    *target = std::move(value);
    return target;
  }

  template <class Value>
  bool put(Value&& value) {
    place(json(std::forward<Value>(value)));
    return true;
  }

  bool open(json container) {
    if (open_.size() == limits_.depth) {
      throw InputError(file_ + ": is nested deeper than " + std::to_string(limits_.depth) +
                       " levels");
    }
    open_.push_back(place(std::move(container)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& file_;
  const JsonLimits& limits_;
  json root_;
  std::vector<json*> open_;
  json* member_ = nullptr;
  std::size_t values_ = 0;
};

std::string range_text(std::int64_t low, std::int64_t high) {
  return "an integer from " + std::to_string(low) + " to " + std::to_string(high);
}

bool in_range(const json& value, std::int64_t low, std::int64_t high) {
  if (value.is_number_unsigned() &&
      value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX)) {
    return false;
  }
  return value.is_number_integer() && value.get<std::int64_t>() >= low &&
         value.get<std::int64_t>() <= high;
}

}  // namespace

json parse_json(std::string_view text, const std::string& file, const JsonLimits& limits) {
  if (text.size() > limits.bytes) {
    throw InputError(file + ": has " + std::to_string(text.size()) + " bytes, expected at most " +
                     std::to_string(limits.bytes));
  }
  DocumentBuilder builder(file, limits);
  json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

std::string describe(const json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array of " + std::to_string(value.size()) + " elements";
  return printable(value.dump(-1, ' ', false, json::error_handler_t::replace), 60);
}

JsonObject::JsonObject(const json& value, std::string where)
    : value_(value), where_(std::move(where)) {
  if (!value.is_object()) {
    throw InputError(where_ + ": is " + describe(value) + ", expected an object");
  }
}

const json* JsonObject::find(const char* key) const {
  const auto member = value_.find(key);
  return member == value_.end() || member->is_null() ? nullptr : &*member;
}

const json& JsonObject::at(const char* key) const {
  const json* member = find(key);
  if (member == nullptr) fail(std::string(key) + " is missing");
  return *member;
}

std::int64_t JsonObject::integer(const char* key, std::int64_t low, std::int64_t high) const {
  const json& member = at(key);
  if (!in_range(member, low, high)) fail(key, member, range_text(low, high));
  return member.get<std::int64_t>();
}

std::int64_t JsonObject::integer_or(const char* key, std::int64_t absent, std::int64_t low,
                                    std::int64_t high) const {
  return find(key) == nullptr ? absent : integer(key, low, high);
}

double JsonObject::number_or(const char* key, double absent) const {
  const json* member = find(key);
  if (member == nullptr) return absent;
  if (!member->is_number()) fail(key, *member, "a number");
  return member->get<double>();
}

bool JsonObject::boolean_or(const char* key, bool absent) const {
  const json* member = find(key);
  if (member == nullptr) return absent;
  if (!member->is_boolean()) fail(key, *member, "true or false");
  return member->get<bool>();
}

const std::string& JsonObject::string(const char* key) const {
  const json& member = at(key);
  if (!member.is_string()) fail(key, member, "a string");
  return member.get_ref<const std::string&>();
}

std::string JsonObject::string_or(const char* key, const char* absent) const {
  return find(key) == nullptr ? absent : string(key);
}

const json& JsonObject::array(const char* key, std::size_t max_elements) const {
  const json& member = at(key);
  if (!member.is_array()) fail(key, member, "an array");
  if (member.size() > max_elements) {
    fail(key, member, "at most " + std::to_string(max_elements) + " elements");
  }
  return member;
}

void JsonObject::fail(const std::string& what) const { throw InputError(where_ + ": " + what); }

void JsonObject::fail(const char* key, const json& found, const std::string& expected) const {
  fail(std::string(key) + " is " + describe(found) + ", expected " + expected);
}

std::int64_t checked_integer(const json& value, const std::string& what, std::int64_t low,
                             std::int64_t high) {
  if (!in_range(value, low, high)) {
    throw InputError(what + " is " + describe(value) + ", expected " + range_text(low, high));
  }
  return value.get<std::int64_t>();
}

}  // namespace chunkstate
