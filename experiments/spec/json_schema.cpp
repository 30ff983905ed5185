// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "experiments/spec/key_table.hpp"

namespace chunkstate {
namespace {

using Json = nlohmann::ordered_json;
using Kind = Domain::Kind;

Json whole_if_possible(double value) {
  return value == static_cast<double>(static_cast<std::int64_t>(value))
             ? Json(static_cast<std::int64_t>(value))
             : Json(value);
}

Json pattern(const std::string& expression) {
  return {{"type", "string"}, {"pattern", expression}};
}

/// What may stand between the brackets of a word's pattern, all but the dash.
std::string characters_of(const Domain& domain) {
  std::string characters = "A-Za-z0-9";
  for (const std::string_view more : {word_characters, domain.more_characters}) {
    for (const char c : more) {
      if (c == '[' || c == ']') characters += '\\';
      if (c != '-') characters += c;
    }
  }
  return characters;
}

Json domain_schema(const Domain& domain) {
  switch (domain.kind) {
    case Kind::integer:
    case Kind::number: {
      Json schema = {{"type", domain.kind == Kind::integer ? "integer" : "number"}};
      schema[domain.above_least ? "exclusiveMinimum" : "minimum"] = whole_if_possible(domain.least);
      schema["maximum"] = whole_if_possible(domain.most);
      return schema;
    }
    case Kind::boolean:
      return {{"type", "boolean"}};
    case Kind::choice:
      return {{"enum", domain.choices()}};
    case Kind::text:
      return {{"type", "string"}, {"minLength", 1}};
    case Kind::name:
      return pattern("^[A-Za-z0-9_][A-Za-z0-9._-]*$");
    case Kind::word:
      return pattern(fmt::format("^[{0}][-{0}]*$", characters_of(domain)));
    case Kind::words:
      return pattern(fmt::format("^[{0}][-{0}]*( [{0}][-{0}]*)*$", characters_of(domain)));
    case Kind::options:
      return pattern(fmt::format("^-[-{0}]*( [-{0}]+)*$", characters_of(domain)));
    case Kind::duration:
      return pattern("^[1-9][0-9]*[smhd]$");
    case Kind::size:
      return pattern("^[1-9][0-9]*[KMGT]$");
  }
  return {};
}

Json empty_section() {
  return {{"type", "object"}, {"additionalProperties", false}, {"properties", Json::object()}};
}

/// The section that holds `path`, made on the way; `path` is left with its last name.
Json& section_of(Json& root, std::string_view& path) {
  Json* section = &root;
  for (std::size_t dot = path.find('.'); dot != std::string_view::npos; dot = path.find('.')) {
    Json& properties = (*section)["properties"];
    const std::string name(path.substr(0, dot));
    if (!properties.contains(name)) properties[name] = empty_section();
    section = &properties[name];
    if (section->contains("anyOf")) section = &(*section)["anyOf"][1];
    path.remove_prefix(dot + 1);
  }
  return *section;
}

Json sweep_schema(const Json& axes) {
  Json map = empty_section();
  map["properties"] = axes;
  Json schema = empty_section();
  schema["description"] = "Settings that take several values.";
  schema["properties"]["matrix"] = map;
  schema["properties"]["zip"] = map;
  schema["properties"]["exclude"] = {{"type", "array"}, {"items", {{"type", "string"}}}};
  return schema;
}

}  // namespace

std::string experiment_json_schema() {
  static const ExperimentSpec defaults;
  Json root = empty_section();
  Json axes = Json::object();
  for (const Key& key : experiment_keys()) {
    Json value = domain_schema(key.domain);
    if (key.scope == Scope::point) {
      axes[std::string(key.path)] = {{"type", "array"}, {"minItems", 1}, {"items", value}};
    }
    value["description"] = key.help;
    const std::string stored = stored_value(key, defaults, defaults.base);
    if (!stored.empty() && !key.required) {
      const bool plain = value.contains("type") && value["type"] != "string";
      value["default"] = plain || value.contains("const") ? Json::parse(stored) : Json(stored);
    }
    std::string_view name = key.path;
    Json& section = section_of(root, name);
    if (key.required) section["required"].push_back(name);
    if (is_section(key.path)) {  // a word, or a map of the keys below it
      value = {{"description", key.help}, {"anyOf", {domain_schema(key.domain), empty_section()}}};
    }
    section["properties"][std::string(name)] = std::move(value);
  }
  root["properties"]["sweep"] = sweep_schema(axes);
  root["required"].push_back("model");
  root["required"].push_back("prompts");
  root["properties"]["prompts"]["oneOf"] = {{{"required", {"file"}}},
                                            {{"required", {"synthetic"}}}};
  return root.dump(1) + "\n";
}

}  // namespace chunkstate
