// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace chunkstate {

struct JsonLimits {
  std::size_t bytes = std::size_t{1} << 20;
  std::size_t values = std::size_t{1} << 20;  // objects, arrays and scalars together
  std::size_t depth = 32;
};

/// One JSON value, strictly: valid UTF-8, no duplicate keys, nothing behind it, within `limits`.
/// `file` is used in messages only. Throws InputError.
nlohmann::json parse_json(std::string_view text, const std::string& file,
                          const JsonLimits& limits = {});

/// A value as it appears in a message: a scalar as JSON, cut to a few dozen characters, or what
/// kind of container it is.
std::string describe(const nlohmann::json& value);

/// Reads the members of an object. A member that is null counts as absent. Every getter throws
/// InputError with `where`, the key, what was found and what was expected.
class JsonObject {
 public:
  /// Throws InputError if `value` is not an object. Keeps a reference to `value`.
  JsonObject(const nlohmann::json& value, std::string where);

  const std::string& where() const { return where_; }
  const nlohmann::json* find(const char* key) const;
  const nlohmann::json& at(const char* key) const;

  std::int64_t integer(const char* key, std::int64_t low, std::int64_t high) const;
  std::int64_t integer_or(const char* key, std::int64_t absent, std::int64_t low,
                          std::int64_t high) const;
  double number_or(const char* key, double absent) const;
  bool boolean_or(const char* key, bool absent) const;
  const std::string& string(const char* key) const;
  std::string string_or(const char* key, const char* absent) const;
  const nlohmann::json& array(const char* key, std::size_t max_elements) const;

  [[noreturn]] void fail(const std::string& what) const;
  [[noreturn]] void fail(const char* key, const nlohmann::json& found,
                         const std::string& expected) const;

 private:
  const nlohmann::json& value_;
  std::string where_;
};

/// `value` if it is an integer in [low, high]; otherwise InputError "`what` is ..., expected an
/// integer from ... to ...".
std::int64_t checked_integer(const nlohmann::json& value, const std::string& what, std::int64_t low,
                             std::int64_t high);

}  // namespace chunkstate
