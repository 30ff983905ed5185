// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "experiments/record/provenance.hpp"
#include "experiments/run/job.hpp"

namespace chunkstate {

/// The end of a run, on its first rank: tells how many of `items` (indices into the plan) have an
/// outcome, and if none is missing writes DIR/results.h5; of an array's task whoever comes after
/// all of them does that. `code`: what the ranks ended with. Returns the exit code of the run.
/// Throws as write_results().
int write_outcome(const Job& job, const std::vector<std::size_t>& items,
                  const RunProvenance& provenance, int code);

}  // namespace chunkstate
