// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "experiments/record/request_record.hpp"

namespace chunkstate {

/// A number that every request has: a column of /requests, a row of /summary. Formulas: README.md
/// beside this file.
struct Metric {
  const char* name;
  const char* units;  // as UDUNITS writes them
  const char* long_name;
  double (*value)(const RequestRecord& request);  // NaN: missing
  bool is_count = false;                          // stored as an integer, missing as -1
};

std::span<const Metric> request_metrics();
/// Throws UsageError, which lists the names, if there is none of this name.
const Metric& metric_named(const std::string& name);

}  // namespace chunkstate
