// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "experiments/record/results_file.hpp"
#include "experiments/report/report_table.hpp"

namespace chunkstate {

/// The tables that these results can fill, by section of the page.
std::vector<ReportTable> report_tables(const StoredResults& results);

/// Medians with their 95 % intervals per sweep point.
ReportTable summary_table_of(const StoredResults& results);
/// How much faster or smaller each point is than the first one that has results, by the bootstrap
/// of `compare`; no rows for one point, or beyond 20,000 requests, where it would take a minute.
ReportTable change_table_of(const StoredResults& results);
/// What each way to execute costs and gives; no rows unless an axis is execution.mode, autotune or
/// fusion.
ReportTable execution_table_of(const StoredResults& results);

/// How far the outputs of points agree that compute the same in other ways (axes of `execution`,
/// generation.batch and use_cache); no rows where an axis changes what is computed.
ReportTable agreement_table_of(const StoredResults& results);

/// Means over prompts of what was compared with the exact reference and judged, with 95 %
/// intervals; no rows if nothing was evaluated.
ReportTable accuracy_table_of(const StoredResults& results);
/// GPTScore of pairs of points, prompt by prompt: mean difference, Wilcoxon's test, Holm's
/// correction within each aspect. All pairs of up to 4 points, else each with the first.
ReportTable gptscore_table_of(const StoredResults& results);

}  // namespace chunkstate
