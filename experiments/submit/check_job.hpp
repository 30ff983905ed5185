// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "experiments/submit/job_scripts.hpp"

namespace chunkstate {

/// Throws UsageError for settings that contradict each other: a launcher for too many ranks, times,
/// GPUs and how they are asked for, groups of ranks that do not share a node.
void check_job(const JobRequest& request);

}  // namespace chunkstate
