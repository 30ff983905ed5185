// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "experiments/doctor/finding.hpp"
#include "parallel/communicator.hpp"

namespace chunkstate {

/// Whether results can be written to `directory` as `run` does it: files that are synced, renamed
/// and locked, HDF5 that is read back, space. Nothing is left behind; the directory itself is made,
/// and removed again, if it is not there.
Findings folder_findings(const std::filesystem::path& directory);

/// Whether all hosts see the same directory, which must exist: journals of all ranks lie there.
/// Collective; the same findings on every rank.
Findings shared_folder_findings(Communicator& world, const std::filesystem::path& directory);

}  // namespace chunkstate
