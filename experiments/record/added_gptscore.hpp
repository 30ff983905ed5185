// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "experiments/record/results_file.hpp"

namespace chunkstate {

/// For who writes `content` over the results file `file`: GPTScores that `chunkstate gptscore`
/// added to that file are in no journal. They are taken over if all of them are of the outputs of
/// `content`, else a line on stderr says that they are left out. Does nothing if there is no such
/// file, it cannot be read or `content` has scores of its own.
void keep_added_gptscore(const std::filesystem::path& file, ResultsContent& content);

}  // namespace chunkstate
