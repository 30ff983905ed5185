// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "experiments/record/results_file.hpp"

namespace chunkstate {

/// A table with its texts ready: the same for the page, CSV, Markdown and LaTeX.
struct ReportTable {
  std::string name;  // of its file: "summary"
  std::string title;
  std::string source;  // where its numbers are in the results file
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};

/// Medians with their 95 % intervals per sweep point.
ReportTable summary_table_of(const StoredResults& results);
/// The ranks that worked, and where.
ReportTable rank_table_of(const StoredResults& results);

/// RFC 4180; texts with a comma, quote or line break are quoted.
std::string to_csv(const ReportTable& table);
std::string to_markdown(const ReportTable& table);
/// A tabular environment with booktabs' rules.
std::string to_latex(const ReportTable& table);
std::string to_html(const ReportTable& table);

}  // namespace chunkstate
