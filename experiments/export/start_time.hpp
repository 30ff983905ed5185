// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "experiments/record/results_file.hpp"

namespace chunkstate {

/// When the process of that index started, seconds since 1970; NaN if it is not known.
double start_seconds(const StoredResults& results, std::int64_t process);

}  // namespace chunkstate
