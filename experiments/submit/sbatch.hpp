// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace chunkstate {

/// Runs `sbatch --parsable` with these arguments; returns the job's id. sbatch's own errors go to
/// stderr as they are. Throws std::runtime_error if it cannot be started, fails or names no job.
std::string sbatch(const std::vector<std::string>& arguments);

}  // namespace chunkstate
