// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/trace.hpp"

namespace chunkstate {

/// What one rank's part of a timeline is called, and how its clock becomes that of all.
struct TraceRank {
  int rank = 0;                                     // its "pid" in the file
  std::string label;                                // "rank 0, node7"
  std::function<std::int64_t(std::int64_t)> shift;  // own nanoseconds -> those since the run began
};

/// Hands over the events of the Trace Event Format (the JSON that Perfetto and chrome://tracing
/// read) as pieces of about a megabyte: objects with ",\n" between them, none at the ends. One
/// "process" per rank, one "thread" per host thread and per GPU stream; spans of a stream that
/// overlap go to further threads, because those of one must nest.
void write_trace_events(const TraceContent& content, const TraceRank& rank,
                        const std::function<void(std::string_view)>& sink);

/// What comes before the events and after them. `other_data`: a JSON object.
std::string trace_head(const std::string& other_data);
std::string_view trace_tail();

}  // namespace chunkstate
