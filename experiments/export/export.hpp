// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "experiments/record/results_file.hpp"

namespace chunkstate {

/// Other forms of a results file, as text. Formats: experiments/export/README.md.

/// One row per request with all columns of /requests, what was evaluated, and the output.
std::string export_csv(const StoredResults& results);

/// The columns of the seed project's result tables, tabs between them, one row per request.
std::string export_seed_tsv(const StoredResults& results);

/// JSON Lines for tracking boards: for each sweep point a line with its parameters, then a line of
/// metrics with step and timestamp per request done, then one with the medians.
std::string export_json_lines(const StoredResults& results);

/// The Trace Event Format: a process per rank's process, a span per request with its prefill and
/// its decode inside. `profile.trace` says what happened in them.
std::string export_trace(const StoredResults& results);

}  // namespace chunkstate
