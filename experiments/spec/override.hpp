// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "experiments/spec/yaml_tree.hpp"

namespace chunkstate {

/// Puts `key.path=value` texts into the tree, in order; an empty value takes the key out. What
/// follows `sweep.matrix.` or `sweep.zip.` is one key, the axis. Throws UsageError for a text of
/// another form, and for a setting that is a sweep axis, where it would have no effect.
void apply_overrides(YamlNode& root, const std::vector<std::string>& overrides);

}  // namespace chunkstate
