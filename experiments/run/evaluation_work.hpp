// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "experiments/record/journal.hpp"
#include "experiments/run/job.hpp"

namespace chunkstate {

/// Whether a request's evaluation is still to be computed.
bool is_to_evaluate(const RequestRecord& request, bool retry_failed);

/// The second part of a run: what `accuracy` asks for is computed of the outputs, when everything
/// is timed. Of `items` (indices into the plan; rank 0's are taken) those that have an output and
/// no evaluation. One whose process died three times is tried in a process of its own first.
/// Collective. Returns an exit code.
int evaluate_outputs(const Job& job, const std::vector<std::size_t>& items, JournalWriter* journal);

}  // namespace chunkstate
