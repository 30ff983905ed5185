// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "experiments/spec/key_table.hpp"
#include "experiments/spec/sweep.hpp"

namespace chunkstate {

/// Every key of the experiment with its value, defaults too, in the order of the key table;
/// launcher keys left out. Valid input that resolves to itself.
std::string resolved_yaml(const ExperimentSpec& spec, const Sweep& sweep);

}  // namespace chunkstate
