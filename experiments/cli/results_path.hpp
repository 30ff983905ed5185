// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace chunkstate {

/// The results file that is meant by `given`: a file itself, or a run's folder, whose results.h5 it
/// is. Throws InputError for a folder that has none, which says what the run there lacks.
std::string results_path(const std::string& given);

}  // namespace chunkstate
