// SPDX-License-Identifier: Apache-2.0
// The table of keys against what goes by it: the parser, the JSON Schema, the README.
#include "experiments/spec/key_table.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "core/input_file.hpp"
#include "core/variant_names.hpp"
#include "tests/catch.hpp"

namespace chunkstate {
namespace {

const std::string head = "schema: 1\nname: test\nmodel: {path: m}\nprompts: {file: p.json}\n";

// The table of keys in experiments/README.md.
std::string key_reference() {
  const ExperimentSpec defaults;
  std::string text = "| key | value | default | meaning |\n| --- | --- | --- | --- |\n";
  for (const Key& key : experiment_keys()) {
    const std::string stored = stored_value(key, defaults, defaults.base);
    const std::string value = key.required     ? "required"
                              : stored.empty() ? "not set"
                                               : fmt::format("`{}`", stored);
    std::string expected = key.domain.expected();
    for (std::size_t bar = 0; (bar = expected.find('|', bar)) != std::string::npos; bar += 2) {
      expected.insert(bar, "\\");  // a bar would end the cell
    }
    text += fmt::format("| `{}`{} | {} | {} | {} |\n", key.path,
                        key.scope == Scope::point ? " *" : "", expected, value, key.help);
  }
  return text;
}

TEST_CASE("Every key can be set, and every point key can be an axis") {
  for (const Key& key : experiment_keys()) {
    CAPTURE(key.path);
    std::string value;
    switch (key.domain.kind) {
      case Domain::Kind::integer:
        value = std::to_string(static_cast<std::int64_t>(key.domain.most));
        break;
      case Domain::Kind::number:
        value = "0.25";
        break;
      case Domain::Kind::boolean:
        value = "false";
        break;
      case Domain::Kind::choice:
        value = key.domain.choices().front();
        break;
      case Domain::Kind::duration:
        value = "90s";
        break;
      case Domain::Kind::size:
        value = "16G";
        break;
      case Domain::Kind::options:
        value = "--word";
        break;
      default:
        value = "word";
        break;
    }
    if (key.path.starts_with("prompts.")) continue;  // these exclude each other: tested above
    const std::string path(key.path);
    // Groups of several ranks exist in this mode only.
    const std::string mode =
        path == "parallel.ranks_per_group" ? "parallel.mode=sequence" : "parallel.mode=data";
    // And batches of several prompts in this scenario.
    const std::string scenario =
        std::string("scenario.type=") + (path == "scenario.batch" ? "offline" : "single_stream");
    // Instructions to a judge need one, and a place for the text that is given.
    if (path.starts_with("accuracy.gptscore.")) value = "see {given}";
    const ExperimentSpec spec = parse_experiment(
        head, "exp.yaml", {mode, scenario, "accuracy.gptscore.judge=folder", path + "=" + value});
    const std::string stored = stored_value(key, spec, spec.base);
    if (!stored.empty()) CHECK(stored == value);
    if (key.scope != Scope::point) continue;
    const ExperimentSpec swept =
        parse_experiment(head, "exp.yaml", {scenario, "sweep.matrix." + path + "=[" + value + "]"});
    CHECK(stored_value(key, swept, swept.points.at(0).settings) == value);
  }
}

TEST_CASE("The JSON Schema knows every key, variant and axis") {
  const auto schema = nlohmann::json::parse(experiment_json_schema());
  CHECK(schema["additionalProperties"] == false);
  CHECK(schema["required"] == nlohmann::json{"schema", "name", "model", "prompts"});
  for (const Key& key : experiment_keys()) {
    CAPTURE(key.path);
    const nlohmann::json* node = &schema;
    std::stringstream path{std::string(key.path)};
    for (std::string name; std::getline(path, name, '.');) {
      if (node->contains("anyOf")) node = &(*node)["anyOf"][1];
      REQUIRE((*node)["properties"].contains(name));
      node = &(*node)["properties"][name];
    }
    CHECK((*node)["description"] == key.help);
    CHECK(schema["properties"]["sweep"]["properties"]["matrix"]["properties"].contains(key.path) ==
          (key.scope == Scope::point));
  }
  CHECK(schema["properties"]["ssm"]["properties"]["variant"]["enum"] ==
        nlohmann::json(all_variant_names()));
}

TEST_CASE("The key reference in the README is the table's") {
  const std::string readme =
      read_input_file(std::string(CHUNKSTATE_SOURCE_DIR) + "/experiments/README.md", 1 << 20);
  const std::string reference = key_reference();
  if (readme.find(reference) == std::string::npos) {
    FAIL("put this table into experiments/README.md:\n" << reference);
  }
}

}  // namespace
}  // namespace chunkstate
