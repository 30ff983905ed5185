// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/spec/exclude.hpp"
#include "experiments/spec/key_table.hpp"

namespace chunkstate {

inline constexpr std::int64_t max_sweep_points = 50000;

/// The `sweep` section: every combination of the matrix axes (first axis outermost) times the rows
/// of the zip axes, less the excluded ones.
struct Sweep {
  struct Axis {
    const Key* key = nullptr;
    std::vector<std::string> values;  // canonical
  };

  std::vector<Axis> matrix;
  std::vector<Axis> zip;  // equally long
  std::vector<std::string> exclude_texts;
  std::vector<Condition> exclude;
};

/// Paths of all settings that can be an axis.
std::vector<std::string> axis_names();

/// Reads and checks the section, including the number of points. Throws UsageError.
Sweep read_sweep(const YamlNode& section);

/// `spec.base` with each combination's values. One point without axes if the sweep is empty. Throws
/// UsageError, placed at `place`, if every point is excluded.
std::vector<SweepPoint> expand_sweep(const Sweep& sweep, const ExperimentSpec& spec,
                                     const Place& place);

/// store_value, and what follows from the key: a temperature, top_k or top_p means sampling.
void assign_value(const Key& key, const std::string& value, ExperimentSpec& spec,
                  PointSettings& settings);

}  // namespace chunkstate
