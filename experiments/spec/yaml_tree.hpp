// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace chunkstate {

/// Where a piece of YAML stands, for messages.
struct Place {
  std::shared_ptr<const std::string> file;
  int line = 0;    // from 1; 0: the source is one override, not a file
  int column = 0;  // from 1

  std::string text() const;  // "exp.yaml:12:5"
};

/// A value of a YAML document. Nothing is converted: a scalar is the text that was written.
struct YamlNode {
  enum class Kind : std::uint8_t { null, scalar, list, map };
  struct Entry;

  Kind kind = Kind::null;
  Place place;
  std::string text;     // scalar
  bool quoted = false;  // scalar: in quotes or a block, so it is text whatever it looks like
  std::vector<YamlNode> items;  // list
  std::vector<Entry> entries;   // map, in the order of the file, keys unique

  /// nullptr if this is no map or has no such key.
  YamlNode* find(std::string_view key);
  const YamlNode* find(std::string_view key) const;
  /// "a list", "the text 'abc'", "nothing", for messages.
  std::string described() const;
};

struct YamlNode::Entry {
  std::string key;
  Place place;
  YamlNode value;
};

inline constexpr std::size_t max_yaml_bytes = std::size_t{1} << 20;
inline constexpr int max_yaml_depth = 32;

/// Parses one document of the YAML subset that experiment files use: maps, lists and scalars.
/// Refuses, with the place: more than 1 MiB, bytes that are not UTF-8, byte order marks, control
/// characters, tabs in the indentation, nesting deeper than 32, anchors, aliases, tags, merge keys,
/// directives, duplicate keys, keys that are not plain words, and a second document. An empty text
/// gives a null node. Throws UsageError.
YamlNode parse_yaml(const std::string& text, const std::string& file);

/// The same for one value of the command line: messages give `source` alone as the place.
YamlNode parse_yaml_value(const std::string& text, const std::string& source);

/// Throws UsageError "PLACE: MESSAGE".
[[noreturn]] void fail_at(const Place& place, const std::string& message);

}  // namespace chunkstate
