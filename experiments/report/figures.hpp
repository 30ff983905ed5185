// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "experiments/record/results_file.hpp"

namespace chunkstate {

/// A drawn chart: an <svg> element, and a name for its file.
struct Figure {
  std::string name;     // "ttft-by-chunks"
  std::string section;  // heading under which the page shows it
  std::string svg;
};

/// The figures that these results can fill, in the page's order.
std::vector<Figure> report_figures(const StoredResults& results);

}  // namespace chunkstate
