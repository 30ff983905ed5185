// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/digest.hpp"
#include "core/errors.hpp"
#include "core/judge_template.hpp"
#include "core/variant_names.hpp"
#include "experiments/spec/experiment_spec.hpp"
#include "experiments/spec/input_file.hpp"
#include "experiments/spec/key_table.hpp"
#include "experiments/spec/override.hpp"
#include "experiments/spec/resolved_yaml.hpp"
#include "experiments/spec/sweep.hpp"
#include "experiments/spec/yaml_tree.hpp"

namespace chunkstate {
namespace {

using Kind = YamlNode::Kind;

// Ids of synthetic prompts are held in memory: 2^28 of them are 1 GiB.
constexpr std::int64_t max_synthetic_tokens = std::int64_t{1} << 28;

bool is_below(std::string_view path, std::string_view section) {
  return path.size() > section.size() && path.starts_with(section) && path[section.size()] == '.';
}

/// Names of what may stand directly in a section ("" is the whole file).
std::vector<std::string> names_in(const std::string& section) {
  std::vector<std::string> names;
  for (const Key& key : experiment_keys()) {
    if (!section.empty() && !is_below(key.path, section)) continue;
    const std::string_view rest = key.path.substr(section.empty() ? 0 : section.size() + 1);
    const std::string name(rest.substr(0, rest.find('.')));
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  }
  if (section.empty()) names.emplace_back("sweep");
  return names;
}

[[noreturn]] void refuse_unknown(const std::string& section, const YamlNode::Entry& entry) {
  // A right word in a wrong section is a commoner mistake than a word that happens to be near.
  for (const Key& key : experiment_keys()) {
    if (!key.path.ends_with("." + entry.key)) continue;
    fail_at(entry.place,
            fmt::format("unknown key '{}'{} (did you mean '{}'?)", entry.key,
                        section.empty() ? "" : fmt::format(" in '{}'", section), key.path));
  }
  fail_at(entry.place,
          fmt::format("unknown key {}", with_suggestion(entry.key, names_in(section))));
}

class Reader {
 public:
  Reader(const YamlNode& root, ExperimentSpec& spec) : root_(root), spec_(spec) {}

  void read() {
    if (root_.kind != Kind::map) {
      fail_at(root_.place, fmt::format("found {}, expected a map with the keys {}",
                                       root_.described(), fmt::join(names_in(""), ", ")));
    }
    read_section(root_, "");
    for (const Key& key : experiment_keys()) {
      if (key.required) require(key.path);
    }
    check_prompts();
    check_accuracy();
    check_parallel();
    if (spec_.base.model_path.starts_with("synthetic:")) spec_.base.model_weights = "synthetic";
    if (spec_.output.dir.empty()) spec_.output.dir = "results/" + spec_.name;

    spec_.points = expand_sweep(sweep_, spec_, place_of("sweep"));
    for (const auto* axes : {&sweep_.matrix, &sweep_.zip}) {
      for (const Sweep::Axis& axis : *axes) spec_.axis_paths.emplace_back(axis.key->path);
    }
    for (const SweepPoint& point : spec_.points) check_point(point);
    spec_.yaml_resolved = resolved_yaml(spec_, sweep_);
    spec_.config_hash = Digest().text(spec_.yaml_resolved).hex();
  }

 private:
  void read_section(const YamlNode& section, const std::string& name) {
    for (const YamlNode::Entry& entry : section.entries) {
      const std::string path = name.empty() ? entry.key : name + "." + entry.key;
      const YamlNode& value = entry.value;
      places_[path] = entry.place;
      if (std::ranges::find(later_keys(), path) != later_keys().end()) {
        fail_at(entry.place, fmt::format("'{}' is not in this version", path));
      }
      const Key* key = find_key(path);
      if (path == "sweep") {
        sweep_ = read_sweep(value);
      } else if (is_section(path) && (key == nullptr || value.kind == Kind::map)) {
        read_subsection(value, path);
      } else if (key != nullptr) {
        read_value(*key, value);
      } else {
        refuse_unknown(name, entry);
      }
    }
  }

  void read_subsection(const YamlNode& value, const std::string& path) {
    if (value.kind != Kind::map || value.entries.empty()) {
      fail_at(value.place, fmt::format("{}: found {}, expected a map with keys of {}", path,
                                       value.kind == Kind::map ? "an empty map" : value.described(),
                                       fmt::join(names_in(path), ", ")));
    }
    read_section(value, path);
  }

  void read_value(const Key& key, const YamlNode& node) {
    const std::string value = checked_value(key, node);
    assign_value(key, value, spec_, spec_.base);
  }

  void require(std::string_view path) const {
    if (places_.contains(path)) return;
    const std::string_view section = path.substr(0, std::min(path.rfind('.'), path.size()));
    const bool optional = section.find('.') != std::string_view::npos && !places_.contains(section);
    if (optional) return;
    fail_at(place_of(section), fmt::format("the key '{}' is missing", path));
  }

  /// Of the key if it is in the file, else of the whole.
  Place place_of(std::string_view path) const {
    const auto found = places_.find(path);
    return found == places_.end() ? root_.place : found->second;
  }

  void check_prompts() const {
    const PromptSettings& prompts = spec_.prompts;
    const Place place = place_of("prompts");
    const bool synthetic = places_.contains("prompts.synthetic");
    if (prompts.file.empty() != synthetic) {
      fail_at(place,
              fmt::format("prompts: found {}, expected one of them",
                          synthetic ? "both file and synthetic" : "neither file nor synthetic"));
    }
    if (!synthetic) return;
    if (places_.contains("prompts.limit")) {
      fail_at(place_of("prompts.limit"),
              "prompts.limit: found with synthetic prompts, expected a file");
    }
    if (prompts.synthetic_tokens > max_synthetic_tokens / prompts.synthetic_count) {
      fail_at(place_of("prompts.synthetic"),
              fmt::format("prompts.synthetic: found {} x {} tokens, expected at most {}",
                          prompts.synthetic_count, prompts.synthetic_tokens, max_synthetic_tokens));
    }
  }

  void check_accuracy() const {
    const AccuracySettings& accuracy = spec_.accuracy;
    if (accuracy.state_drift && !accuracy.compares()) {
      fail_at(place_of("accuracy.state_drift"),
              "accuracy.state_drift: found true, expected accuracy.reference: exact_fp32 with it");
    }
    if (!accuracy.judges()) return;
    for (const auto& [path, text] : {std::pair{"quality", &accuracy.quality},
                                     {"naturalness", &accuracy.naturalness},
                                     {"informativeness", &accuracy.informativeness}}) {
      const std::string key = std::string("accuracy.gptscore.") + path;
      try {
        parse_judge_template(*text);
      } catch (const UsageError& error) {
        fail_at(place_of(key), key + ": " + error.what());
      }
    }
  }

  void check_parallel() const {
    const ParallelSettings& parallel = spec_.parallel;
    if (parallel.mode != "data" || parallel.ranks_per_group == 1) return;
    fail_at(place_of("parallel.ranks_per_group"),
            fmt::format("parallel.ranks_per_group: found {}, expected 1 in mode data",
                        parallel.ranks_per_group));
  }

  void check_point(const SweepPoint& point) const {
    const PointSettings& settings = point.settings;
    if (spec_.parallel.mode == "sequence" && settings.prefill_tokens > 0) {
      refuse(point, "execution.prefill_tokens",
             fmt::format("found {}, expected 0 (whole prompts) in parallel.mode sequence",
                         settings.prefill_tokens));
    }
    if (settings.model_path.starts_with("synthetic:") && settings.model_path.size() == 10) {
      refuse(point, "model.path",
             "found 'synthetic:', expected a name behind it, as synthetic:bamba-9b");
    }
    for (const AxisValue& axis : point.axes) {
      if (axis.path == "model.weights" && axis.value != settings.model_weights) {
        refuse(point, axis.path, "a synthetic model has no checkpoint");
      }
    }
    if (settings.batch > 1 && settings.sampling != "greedy") {
      refuse(point, "generation.batch",
             fmt::format("found {}, expected 1 with sampling: copies of a prompt would differ",
                         settings.batch));
    }
    if (settings.batch > 1 && spec_.parallel.mode == "sequence") {
      refuse(point, "generation.batch",
             fmt::format("found {}, expected 1 in parallel.mode {}", settings.batch,
                         spec_.parallel.mode));
    }
    check_scenario(point);
    if (ssd_variant_is_causal(settings.variant)) return;
    if (settings.use_cache && settings.max_new_tokens > 1) {
      refuse(point, "ssm.variant",
             fmt::format(
                 "'{}' cannot decode from a cached state, expected generation.use_cache: false or "
                 "generation.max_new_tokens: 1",
                 settings.variant));
    }
    if (settings.prefill_tokens > 0) {
      refuse(point, "ssm.variant",
             fmt::format("'{}' needs whole prompts, expected execution.prefill_tokens: 0",
                         settings.variant));
    }
  }

  void check_scenario(const SweepPoint& point) const {
    const PointSettings& settings = point.settings;
    if (settings.scenario != "offline") {
      if (settings.scenario_batch == 1) return;
      refuse(point, "scenario.batch",
             fmt::format("found {}, expected 1 with scenario.type {} (offline decodes several "
                         "prompts together)",
                         settings.scenario_batch, settings.scenario));
    }
    const auto expect = [&](bool holds, std::string_view path, const std::string& found,
                            std::string_view expected) {
      if (holds) return;
      refuse(point, path,
             fmt::format("found {}, expected {} with scenario.type offline", found, expected));
    };
    expect(spec_.parallel.mode == "data", "parallel.mode", spec_.parallel.mode, "data");
    expect(settings.batch == 1, "generation.batch", std::to_string(settings.batch), "1");
    expect(settings.use_cache, "generation.use_cache", "false", "true");
  }

  [[noreturn]] void refuse(const SweepPoint& point, std::string_view path,
                           const std::string& message) const {
    std::string name;
    for (const AxisValue& axis : point.axes)
      name += fmt::format("{}{}={}", name.empty() ? "" : " ", axis.path, axis.value);
    if (name.empty()) fail_at(place_of(path), fmt::format("{}: {}", path, message));
    fail_at(place_of("sweep"),
            fmt::format("point {} ({}): {}: {}", point.index, name, path, message));
  }

  const YamlNode& root_;
  ExperimentSpec& spec_;
  Sweep sweep_;
  std::map<std::string, Place, std::less<>> places_;  // of the keys that are in the file
};

/// Puts the site's keys into the `slurm` section where it lacks them; those it has are checked too.
void add_site(YamlNode& root, const YamlNode& site) {
  if (site.kind != Kind::map) {
    fail_at(site.place, fmt::format("found {}, expected a map with keys of {}", site.described(),
                                    fmt::join(names_in("slurm"), ", ")));
  }
  if (root.kind != Kind::map) return;  // said with the experiment's place
  if (root.find("slurm") == nullptr) {
    root.entries.push_back({"slurm", site.place, {}});
    root.entries.back().value.kind = Kind::map;
    root.entries.back().value.place = site.place;
  }
  YamlNode& section = *root.find("slurm");
  for (const YamlNode::Entry& entry : site.entries) {
    const Key* key = find_key("slurm." + entry.key);
    if (key == nullptr) refuse_unknown("slurm", entry);
    checked_value(*key, entry.value);
    if (section.kind == Kind::map && section.find(entry.key) == nullptr) {
      section.entries.push_back(entry);
    }
  }
}

}  // namespace

ExperimentSpec parse_experiment(const std::string& yaml, const std::string& file,
                                const std::vector<std::string>& overrides, const YamlSource& site) {
  YamlNode root = parse_yaml(yaml, file);
  if (!site.file.empty()) add_site(root, parse_yaml(site.text, site.file));
  apply_overrides(root, overrides);
  ExperimentSpec spec;
  spec.yaml_source = yaml;
  Reader(root, spec).read();
  return spec;
}

std::string read_experiment_file(const std::string& path) {
  try {
    InputFile file(path);
    std::string text(max_yaml_bytes + 1, '\0');
    std::size_t size = 0;
    while (size < text.size()) {
      const std::size_t count = file.read(text.data() + size, text.size() - size);
      if (count == 0) break;
      size += count;
    }
    text.resize(size);
    return text;
  } catch (const InputError& error) {
    throw UsageError(error.what());
  }
}

ExperimentSpec load_experiment(const std::string& path, const std::vector<std::string>& overrides) {
  return parse_experiment(read_experiment_file(path), path, overrides);
}

}  // namespace chunkstate
