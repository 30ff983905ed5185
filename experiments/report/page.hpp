// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "experiments/record/results_file.hpp"
#include "experiments/report/figures.hpp"

namespace chunkstate {

/// One HTML page without any reference to the network or another file: cards, table, figures,
/// failures, provenance and the experiment's text. `file` names the results it was made from;
/// `timeline`: HTML that stands after the figures, as trace_section() gives it.
std::string report_page(const StoredResults& results, const std::string& file,
                        const std::string& digest, const std::string& timeline = "",
                        const Ceilings& ceilings = {});

}  // namespace chunkstate
