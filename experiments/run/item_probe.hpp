// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "experiments/run/run_experiment.hpp"

namespace chunkstate {

/// Runs one item in a process of its own, unrecorded, and tells how that ended: empty if it ended
/// by itself, otherwise "signal 11" or "exit code 70". An item during which several processes died
/// is poison only if it also kills this one: what died may as well have been killed from outside.
std::string probe_item(const RunOptions& options, const std::string& directory,
                       const std::string& item_id);

}  // namespace chunkstate
