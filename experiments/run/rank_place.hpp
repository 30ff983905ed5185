// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "experiments/record/provenance.hpp"
#include "experiments/spec/experiment_spec.hpp"
#include "parallel/communicator.hpp"

namespace chunkstate {

/// Where this rank computes: its host and, if the experiment uses one, its GPU. What measures its
/// energy is added to the build's facts of `run`.
RankProvenance place_in_run(const Communicator& world, const ExperimentSpec& spec, int threads,
                            RunProvenance& run);

}  // namespace chunkstate
