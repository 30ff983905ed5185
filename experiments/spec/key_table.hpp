// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "experiments/spec/experiment_spec.hpp"
#include "experiments/spec/yaml_tree.hpp"

namespace chunkstate {

/// What a key's value may be.
struct Domain {
  enum class Kind : std::uint8_t {
    integer,   // 12: no leading zero, no sign but -, no quotes
    number,    // 12, 0.5, 1e-3; finite
    boolean,   // true or false, nothing else
    choice,    // one of choices()
    text,      // anything on one line that YAML could not mean as a number, a boolean or nothing
    name,      // [A-Za-z0-9._-]+, not beginning with . or -
    word,      // as text, without spaces and shell characters: it stands in a batch script
    words,     // words with blanks between them
    options,   // words that begin with -, and values of those that do not, blanks between them
    duration,  // 30m, 120s, 2h, 1d
    size       // 16G, 512M
  };

  Kind kind = Kind::text;
  double least = 0;
  double most = 0;
  bool above_least = false;  // least itself is outside
  std::vector<std::string> (*choices)() = nullptr;
  std::vector<std::string> later =
      {};  // values of a documented feature that is not in this version

  std::string_view more_characters = "";  // in words, beside letters, digits and word_characters

  std::string expected() const;  // "an integer from 0 to 1024", for messages and the reference
};

inline constexpr std::string_view word_characters = "._-+:,@/=";

enum class Scope : std::uint8_t {
  point,       // decides what a request computes; may be a sweep axis
  experiment,  // part of the experiment's identity
  launcher     // where and how it runs: not part of the identity
};

/// Where a value is stored; nothing for `schema`.
using Field =
    std::variant<std::monostate, std::string*, std::int64_t*, std::uint64_t*, double*, bool*>;

/// A key of the experiment file. This table drives parsing, overrides, sweep axes, the resolved
/// text, the JSON Schema and the reference in README.md: a new key is one row and one field. Its
/// default is the field's.
struct Key {
  std::string_view path;
  Scope scope;
  Field (*field)(ExperimentSpec&, PointSettings&);
  Domain domain;
  std::string_view help;
  bool required = false;  // where its section is; sections directly in the file are always there
};

/// In the order of the resolved text.
std::span<const Key> experiment_keys();

/// nullptr if there is none.
const Key* find_key(std::string_view path);

/// Whether keys stand below `path`.
bool is_section(std::string_view path);

/// Documented keys whose feature is not in this version: they and everything below them are refused
/// by name.
std::span<const std::string_view> later_keys();

/// Whether every YAML reader takes this plain scalar for text: it is no number, boolean or null,
/// not even by the rules of YAML 1.1 (`no`, `012`, `1:30`).
bool means_text(std::string_view plain);

/// Checks a scalar against the key's domain; the canonical text of the value. Throws UsageError.
std::string checked_value(const Key& key, const YamlNode& node);

/// Stores a text that checked_value() returned. `settings` is where a point key goes.
void store_value(const Key& key, const std::string& value, ExperimentSpec& spec,
                 PointSettings& settings);

/// The stored value as canonical text; empty without a field.
std::string stored_value(const Key& key, const ExperimentSpec& spec, const PointSettings& settings);

/// "'promts' (did you mean 'prompts'?)" if a candidate is near, else "'promts'; known: a, b, c".
std::string with_suggestion(std::string_view found, const std::vector<std::string>& known);

}  // namespace chunkstate
