// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace chunkstate {

/// A span of a timeline, in microseconds since the run began. Texts are the StoredTrace's.
struct StoredSpan {
  const std::string* name = nullptr;
  const std::string* place = nullptr;    // "host" or "gpu"
  const std::string* variant = nullptr;  // of requests only
  double begin = 0;
  double end = 0;
};

/// What trace_file.hpp wrote, as far as tables need it.
struct StoredTrace {
  std::string experiment;
  std::map<std::int64_t, std::vector<StoredSpan>> spans;  // by rank
  std::int64_t ranks = 0;
  std::int64_t dropped = 0;  // spans, on all ranks
  std::set<std::string> texts;

  StoredTrace() = default;
  StoredTrace(const StoredTrace&) = delete;
  StoredTrace& operator=(const StoredTrace&) = delete;
  StoredTrace(StoredTrace&&) = default;
  StoredTrace& operator=(StoredTrace&&) = default;
};

/// Throws InputError for what is no timeline of this program.
StoredTrace read_trace(const std::filesystem::path& file);

/// Microseconds of a rank's host that lie in a region of one of these names, each counted once
/// where they enclose each other.
double time_within(const std::vector<StoredSpan>& spans, const std::set<std::string>& names);

}  // namespace chunkstate
