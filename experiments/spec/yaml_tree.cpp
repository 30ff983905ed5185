// SPDX-License-Identifier: Apache-2.0
#include "experiments/spec/yaml_tree.hpp"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <sstream>
#include <unordered_set>

#include "core/errors.hpp"
#include "experiments/spec/yaml_bytes.hpp"

namespace chunkstate {
namespace {

/// Builds the tree from the parser's events, so that nothing is built from what is refused.
/// (yaml-cpp's own nodes keep both of two equal keys and share aliased subtrees: an alias bomb.)
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::shared_ptr<const std::string> file, bool is_file)
      : file_(std::move(file)), is_file_(is_file) {}

  YamlNode take() { return std::move(root_); }

  Place place(const YAML::Mark& mark) const {
    return is_file_ ? Place{file_, mark.line + 1, mark.column + 1} : Place{file_, 0, 0};
  }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) fail_at(place(mark), "found a second document, expected one");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(node(YamlNode::Kind::null, mark, "?", anchor));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail_at(place(mark), "found an alias (*), expected the value itself");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode scalar = node(YamlNode::Kind::scalar, mark, tag == "!" ? "?" : tag, anchor);
    for (const char c : value) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
        fail_at(scalar.place, "found a control character in a value, expected text of one line");
      }
    }
    scalar.text = value;
    scalar.quoted = tag == "!";
    add(std::move(scalar));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(node(YamlNode::Kind::list, mark, tag, anchor));
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(node(YamlNode::Kind::map, mark, tag, anchor));
  }
  void OnMapEnd() override { close(); }

 private:
  struct OpenNode {
    YamlNode node;
    bool expects_key = false;  // maps alternate between key and value
    std::unordered_set<std::string> keys;
  };

  YamlNode node(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
                YAML::anchor_t anchor) const {
    YamlNode result;
    result.kind = kind;
    result.place = place(mark);
    if (anchor != 0) fail_at(result.place, "found an anchor (&), expected a plain value");
    if (!tag.empty() && tag != "?") {
      fail_at(result.place, fmt::format("found the tag '{}', expected a plain value", tag));
    }
    return result;
  }

  void open(YamlNode node) {
    if (open_.size() >= max_yaml_depth) {
      fail_at(node.place, fmt::format("found nesting deeper than {} levels", max_yaml_depth));
    }
    if (!open_.empty() && open_.back().expects_key) refuse_key(node.place, node.described());
    const bool is_map = node.kind == YamlNode::Kind::map;
    open_.push_back({std::move(node), is_map, {}});
  }

  void close() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    add(std::move(node));
  }

  void add(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    OpenNode& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::list) {
      parent.node.items.push_back(std::move(node));
    } else if (parent.expects_key) {
      add_key(parent, node);
      parent.expects_key = false;
    } else {
      parent.node.entries.back().value = std::move(node);
      parent.expects_key = true;
    }
  }

  void add_key(OpenNode& map, const YamlNode& key) {
    if (key.kind != YamlNode::Kind::scalar || key.text.empty()) {
      refuse_key(key.place, key.described());
    }
    if (key.text == "<<")
      fail_at(key.place, "found a merge key (<<), expected the keys themselves");
    if (!map.keys.insert(key.text).second) {
      for (const YamlNode::Entry& entry : map.node.entries) {
        if (entry.key != key.text) continue;
        fail_at(key.place,
                fmt::format("duplicate key '{}' (first in line {})", key.text, entry.place.line));
      }
    }
    map.node.entries.push_back({key.text, key.place, {}});
  }

  [[noreturn]] static void refuse_key(const Place& place, const std::string& found) {
    fail_at(place, fmt::format("found {} as a key, expected a word", found));
  }

  std::shared_ptr<const std::string> file_;
  bool is_file_;
  int documents_ = 0;
  std::vector<OpenNode> open_;
  YamlNode root_;
};

YamlNode parse(const std::string& text, const std::string& file, bool is_file) {
  const auto name = std::make_shared<const std::string>(file);
  check_yaml_bytes(text, [&](int line, int column, const std::string& message) {
    fail_at(is_file ? Place{name, line, column} : Place{name, 0, 0}, message);
  });
  TreeBuilder builder(name, is_file);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    fail_at(builder.place(error.mark), "not valid YAML: " + error.msg);
  }
  YamlNode root = builder.take();
  if (root.place.file == nullptr) root.place = builder.place({});
  return root;
}

}  // namespace

std::string Place::text() const {
  return line == 0 ? *file : fmt::format("{}:{}:{}", *file, line, column);
}

void fail_at(const Place& place, const std::string& message) {
  throw UsageError(place.text() + ": " + message);
}

const YamlNode* YamlNode::find(std::string_view key) const {
  for (const Entry& entry : entries) {
    if (entry.key == key) return &entry.value;
  }
  return nullptr;
}

YamlNode* YamlNode::find(std::string_view key) {
  return const_cast<YamlNode*>(std::as_const(*this).find(key));
}

std::string YamlNode::described() const {
  switch (kind) {
    case Kind::null:
      return "nothing";
    case Kind::list:
      return "a list";
    case Kind::map:
      return "a map";
    case Kind::scalar:
      break;
  }
  constexpr std::size_t shown = 60;
  if (text.size() <= shown) return fmt::format("'{}'", text);
  std::size_t end = shown;  // not in the middle of a character
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80) --end;
  return fmt::format("'{}...'", text.substr(0, end));
}

YamlNode parse_yaml(const std::string& text, const std::string& file) {
  return parse(text, file, true);
}

YamlNode parse_yaml_value(const std::string& text, const std::string& source) {
  return parse(text, source, false);
}

}  // namespace chunkstate
