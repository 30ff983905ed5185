// SPDX-License-Identifier: Apache-2.0
#include "experiments/spec/sweep.hpp"

#include <fmt/format.h>

#include <set>
#include <unordered_set>

namespace chunkstate {
namespace {

using Kind = YamlNode::Kind;

const YamlNode& expect(const YamlNode& node, Kind kind, std::string_view name,
                       std::string_view expected) {
  if (node.kind != kind) {
    fail_at(node.place, fmt::format("{}: found {}, expected {}", name, node.described(), expected));
  }
  return node;
}

Sweep::Axis read_axis(const YamlNode::Entry& entry, bool distinct) {
  const Key* key = find_key(entry.key);
  if (key == nullptr) {
    fail_at(entry.place, "unknown sweep axis " + with_suggestion(entry.key, axis_names()));
  }
  if (key->scope != Scope::point) {
    fail_at(
        entry.place,
        fmt::format("'{}' is the same for all points, so it cannot be a sweep axis", entry.key));
  }
  expect(entry.value, Kind::list, entry.key, "a list of values");
  if (entry.value.items.empty()) {
    fail_at(entry.value.place, fmt::format("{}: found an empty list, expected values", entry.key));
  }
  Sweep::Axis axis{key, {}};
  std::unordered_set<std::string> seen;
  for (const YamlNode& item : entry.value.items) {
    axis.values.push_back(checked_value(*key, item));
    if (distinct && !seen.insert(axis.values.back()).second) {
      fail_at(item.place, fmt::format("{}: found {} twice, expected distinct values", entry.key,
                                      item.described()));
    }
  }
  return axis;
}

std::vector<Sweep::Axis> read_axes(const YamlNode& node, std::string_view name, bool distinct) {
  expect(node, Kind::map, name, "a map from settings to lists");
  std::vector<Sweep::Axis> axes;
  for (const YamlNode::Entry& entry : node.entries) axes.push_back(read_axis(entry, distinct));
  return axes;
}

void check_zip(const std::vector<Sweep::Axis>& zip, const Place& place) {
  std::set<std::vector<std::string>> rows;
  for (std::size_t i = 0; !zip.empty() && i < zip[0].values.size(); ++i) {
    std::vector<std::string> row;
    for (const Sweep::Axis& axis : zip) {
      if (axis.values.size() != zip[0].values.size()) {
        fail_at(place, fmt::format("zip: {} has {} values and {} has {}, expected equally many",
                                   zip[0].key->path, zip[0].values.size(), axis.key->path,
                                   axis.values.size()));
      }
      row.push_back(axis.values[i]);
    }
    if (!rows.insert(std::move(row)).second) {
      fail_at(place, fmt::format("zip: row {} is there twice, expected distinct rows", i + 1));
    }
  }
}

void check_axes_are_disjoint(const Sweep& sweep, const Place& place) {
  std::vector<std::string_view> paths;
  for (const auto* axes : {&sweep.matrix, &sweep.zip}) {
    for (const Sweep::Axis& axis : *axes) {
      for (const std::string_view other : paths) {
        const std::string_view path = axis.key->path;
        const bool nested = path.starts_with(std::string(other) + ".") ||
                            other.starts_with(std::string(path) + ".");
        if (path == other || nested) {
          fail_at(place,
                  fmt::format("sweep: the axes '{}' and '{}' set the same thing", other, path));
        }
      }
      paths.push_back(axis.key->path);
    }
  }
}

std::int64_t number_of_points(const Sweep& sweep, const Place& place) {
  std::int64_t points =
      sweep.zip.empty() ? 1 : static_cast<std::int64_t>(sweep.zip[0].values.size());
  for (const Sweep::Axis& axis : sweep.matrix) {
    const auto values = static_cast<std::int64_t>(axis.values.size());
    if (points > max_sweep_points / values) {
      fail_at(place, fmt::format("sweep: found more than {} points, expected at most so many",
                                 max_sweep_points));
    }
    points *= values;
  }
  return points;
}

}  // namespace

std::vector<std::string> axis_names() {
  std::vector<std::string> names;
  for (const Key& key : experiment_keys()) {
    if (key.scope == Scope::point) names.emplace_back(key.path);
  }
  return names;
}

void assign_value(const Key& key, const std::string& value, ExperimentSpec& spec,
                  PointSettings& settings) {
  store_value(key, value, spec, settings);
  if (key.path.starts_with("generation.sampling.")) settings.sampling = "sample";
}

Sweep read_sweep(const YamlNode& section) {
  expect(section, Kind::map, "sweep", "a map with matrix, zip, exclude");
  Sweep sweep;
  for (const YamlNode::Entry& entry : section.entries) {
    if (entry.key == "matrix") {
      sweep.matrix = read_axes(entry.value, "sweep.matrix", true);
    } else if (entry.key == "zip") {
      sweep.zip = read_axes(entry.value, "sweep.zip", false);
      check_zip(sweep.zip, entry.value.place);
    } else if (entry.key == "exclude") {
      expect(entry.value, Kind::list, "sweep.exclude", "a list of conditions");
      for (const YamlNode& item : entry.value.items) {
        expect(item, Kind::scalar, "sweep.exclude", "a condition, as \"ssm.chunk_size < 64\"");
        sweep.exclude.emplace_back(item.text, item.place);
        sweep.exclude_texts.push_back(item.text);
      }
    } else {
      fail_at(entry.place,
              "unknown key " + with_suggestion(entry.key, {"matrix", "zip", "exclude"}));
    }
  }
  if (sweep.matrix.empty() && sweep.zip.empty()) {
    fail_at(section.place, "sweep: found no axis, expected one in matrix or zip (or no sweep)");
  }
  check_axes_are_disjoint(sweep, section.place);
  number_of_points(sweep, section.place);
  return sweep;
}

std::vector<SweepPoint> expand_sweep(const Sweep& sweep, const ExperimentSpec& spec,
                                     const Place& place) {
  const std::int64_t combinations = number_of_points(sweep, place);
  std::vector<SweepPoint> points;
  points.reserve(static_cast<std::size_t>(combinations));  // growing would hold it twice over
  ExperimentSpec unused;
  for (std::int64_t combination = 0; combination < combinations; ++combination) {
    SweepPoint point{static_cast<std::int64_t>(points.size()), {}, spec.base};
    const auto set = [&](const Sweep::Axis& axis, std::size_t i) {
      assign_value(*axis.key, axis.values[i], unused, point.settings);
      point.axes.push_back({std::string(axis.key->path), axis.values[i]});
    };
    // Mixed radix: the zip rows turn fastest, the first matrix axis slowest.
    std::int64_t stride = combinations;
    for (const Sweep::Axis& axis : sweep.matrix) {
      const auto values = static_cast<std::int64_t>(axis.values.size());
      stride /= values;
      set(axis, static_cast<std::size_t>(combination / stride % values));
    }
    for (const Sweep::Axis& axis : sweep.zip)
      set(axis, static_cast<std::size_t>(combination % stride));
    if (point.settings.model_path.starts_with("synthetic:"))
      point.settings.model_weights = "synthetic";

    bool excluded = false;
    for (const Condition& condition : sweep.exclude)
      excluded = excluded || condition.holds(point.settings);
    if (!excluded) points.push_back(std::move(point));
  }
  if (points.empty()) {
    fail_at(place,
            fmt::format("sweep: all {} points are excluded, expected one at least", combinations));
  }
  return points;
}

}  // namespace chunkstate
