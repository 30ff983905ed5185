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

/// What the machine reaches: the roof of the roofline. Nothing is drawn of what is not positive.
struct Ceilings {
  double flops = 0;  // per second
  double bytes = 0;  // per second, to and from memory
  std::string file;  // where they stand
};

/// The figures that these results can fill.
std::vector<Figure> report_figures(const StoredResults& results, const Ceilings& ceilings = {});

/// Its parts: medians of the metrics by prompt length with every request behind them, operations
/// per byte and second, who worked when.
std::vector<Figure> length_figures(const StoredResults& results);
std::vector<Figure> limit_figures(const StoredResults& results, const Ceilings& ceilings);
std::vector<Figure> work_figures(const StoredResults& results);
/// What was lost against the exact reference over what was saved in time, and GPTScore's
/// distributions per aspect.
std::vector<Figure> accuracy_figures(const StoredResults& results);

/// Requests drawn one by one in a figure, at most. Of more, evenly spaced ones are, and with them
/// all that are disturbed and each point's smallest and largest value.
inline constexpr std::size_t most_in_cloud = 4000;

}  // namespace chunkstate
