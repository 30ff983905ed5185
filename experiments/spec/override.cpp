// SPDX-License-Identifier: Apache-2.0
#include "experiments/spec/override.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace chunkstate {
namespace {

std::vector<std::string> keys_of(const std::string& path) {
  std::vector<std::string> keys;
  std::size_t begin = 0;
  for (;;) {
    const bool at_axis =
        keys.size() == 2 && keys[0] == "sweep" && (keys[1] == "matrix" || keys[1] == "zip");
    const std::size_t end = at_axis ? std::string::npos : path.find('.', begin);
    keys.push_back(path.substr(begin, end - begin));
    if (end == std::string::npos) return keys;
    begin = end + 1;
  }
}

YamlNode& child(YamlNode& parent, const std::string& key, const Place& place) {
  if (parent.kind != YamlNode::Kind::map) {
    parent = {};
    parent.kind = YamlNode::Kind::map;
    parent.place = place;
  }
  if (YamlNode* found = parent.find(key)) return *found;
  parent.entries.push_back({key, place, {}});
  parent.entries.back().value.place = place;
  return parent.entries.back().value;
}

/// Takes the key out, and the maps around it that are left empty.
void remove(YamlNode& node, const std::vector<std::string>& keys, std::size_t depth = 0) {
  YamlNode* value = node.find(keys[depth]);
  if (value == nullptr) return;
  const bool is_last = depth + 1 == keys.size();
  if (!is_last) remove(*value, keys, depth + 1);
  if (!is_last && (value->kind != YamlNode::Kind::map || !value->entries.empty())) return;
  std::erase_if(node.entries,
                [&](const YamlNode::Entry& entry) { return entry.key == keys[depth]; });
}

/// For messages: one line of moderate length.
std::string shown(const std::string& text) {
  YamlNode node;
  node.kind = YamlNode::Kind::scalar;
  node.text = text;
  std::ranges::replace_if(
      node.text, [](char c) { return c >= 0 && (c < 0x20 || c == 0x7F); }, ' ');
  const std::string quoted = node.described();
  return quoted.substr(1, quoted.size() - 2);
}

void refuse_swept(const YamlNode& root, const std::string& path, const Place& place) {
  const YamlNode* sweep = root.find("sweep");
  for (const std::string_view kind : {"matrix", "zip"}) {
    const YamlNode* axes = sweep == nullptr ? nullptr : sweep->find(kind);
    if (axes != nullptr && axes->find(path) != nullptr) {
      fail_at(place,
              fmt::format("'{0}' is a sweep axis, expected sweep.{1}.{0}=[...]", path, kind));
    }
  }
}

}  // namespace

void apply_overrides(YamlNode& root, const std::vector<std::string>& overrides) {
  for (const std::string& text : overrides) {
    const Place place{std::make_shared<const std::string>("-s " + shown(text)), 0, 0};
    const std::size_t equals = text.find('=');
    const std::string path = text.substr(0, equals);
    const std::vector<std::string> keys = keys_of(path);
    const auto is_bad = [](const std::string& key) {
      return key.empty() || key.find_first_of(" \t[]{}:,'\"") != std::string::npos;
    };
    if (equals == std::string::npos || keys.size() > 8 || std::ranges::any_of(keys, is_bad)) {
      fail_at(place, "expected key.path=value");
    }
    YamlNode value = parse_yaml_value(text.substr(equals + 1), *place.file);
    refuse_swept(root, path, place);
    if (value.kind == YamlNode::Kind::null) {
      remove(root, keys);
      continue;
    }
    YamlNode* node = &root;
    for (const std::string& key : keys) node = &child(*node, key, place);
    *node = std::move(value);
  }
}

}  // namespace chunkstate
