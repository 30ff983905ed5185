// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "experiments/record/results_file.hpp"

namespace chunkstate {

/// A request without a GPU got less than this share of its sweep point's usual processor time.
inline constexpr double undisturbed_cpu_share = 0.8;
/// Requests of a point that have a cpu_percent, from which on "usual" means something.
inline constexpr std::size_t fewest_for_usual_cpu = 5;

/// Whether a request was disturbed, in the order of `results.requests`: one that ran on a CPU whose
/// cpu_percent is below `undisturbed_cpu_share` of the median of its point's done requests, so that
/// something else had its cores; and one whose GPU was slowed by heat or its supply (`throttled`
/// beyond the power cap). Such requests are marked, never dropped. A point with fewer than
/// `fewest_for_usual_cpu` values has no disturbed requests.
std::vector<bool> disturbed_requests(const StoredResults& results);

}  // namespace chunkstate
