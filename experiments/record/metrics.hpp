// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <limits>
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

/// Adds stretches of time that may overlap, in the order of their starts.
class CoveredTime {
 public:
  void add(double start, double seconds) {
    const double end = start + seconds;
    seconds_ += start >= end_ ? seconds : std::max(0.0, end - end_);
    end_ = std::max(end_, end);
  }
  double seconds() const { return seconds_; }
  double end() const { return end_; }

 private:
  double seconds_ = 0;
  double end_ = -std::numeric_limits<double>::infinity();
};

/// Tokens that these requests, of one point, generated per second in which a rank had some of them
/// under way; NaN without any done. Not of one request: those of a batch overlap.
double tokens_per_rank_second(std::span<const RequestRecord* const> requests);

}  // namespace chunkstate
