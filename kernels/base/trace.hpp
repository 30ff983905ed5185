// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace chunkstate {

/// What a timeline keeps when it may not keep everything: phases of a request first.
enum class TraceDetail : std::uint8_t { phase, step };

/// A region of host code, or something that a GPU did.
struct TraceSpan {
  const char* name = "";        // lives as long as the process
  std::int64_t begin_ns = 0;    // CLOCK_MONOTONIC of this host
  std::int64_t end_ns = 0;      // >= begin_ns
  std::int32_t track = 0;       // index into TraceContent::tracks
  std::int32_t arguments = -1;  // index into TraceContent::arguments; -1: none
};

/// Most spans of each kind that a process keeps, 32 bytes each; later ones are counted.
struct TraceLimits {
  std::int64_t phases = 500'000;
  std::int64_t steps = 1'000'000;
};

/// What was recorded in one process, in the order in which the spans ended.
struct TraceContent {
  std::vector<TraceSpan> spans;
  std::vector<std::string> arguments;  // members of JSON objects: "\"point\":3"
  std::vector<std::string> tracks;     // "thread 0", "GPU 0, stream 7"
  std::int64_t dropped = 0;            // spans beyond the limits
  std::string device;                  // why there is nothing of the GPU; empty if there is
};

/// From now on regions are recorded, and what the GPU does if `device`. Throws std::logic_error if
/// they are already.
void start_trace(bool device, const TraceLimits& limits = {});
/// What was recorded; regions that are still open are not. Nothing without start_trace().
TraceContent stop_trace();

/// CLOCK_MONOTONIC in nanoseconds.
std::int64_t trace_clock();

namespace trace {
inline std::atomic<bool> is_on{false};
void push(const char* name);
void pop(const char* name, std::int64_t begin_ns, TraceDetail detail, const std::string* arguments);
/// `name` is copied. From any thread.
void add_device_span(const char* name, std::int64_t begin_ns, std::int64_t end_ns, int device,
                     std::uint32_t stream);
/// Spans that were lost before they came here.
void add_dropped(std::int64_t spans);
}  // namespace trace

/// The scope it lives in, as a span of this thread and, in CUDA builds, an NVTX range. Without a
/// trace it costs one load. `name`: a literal.
class TraceRegion {
 public:
  explicit TraceRegion(const char* name, TraceDetail detail = TraceDetail::phase)
      : name_(trace::is_on.load(std::memory_order_relaxed) ? name : nullptr), detail_(detail) {
    if (name_ == nullptr) return;
    trace::push(name_);
    begin_ns_ = trace_clock();
  }
  ~TraceRegion() {
    if (name_ != nullptr) {
      trace::pop(name_, begin_ns_, detail_, arguments_.empty() ? nullptr : &arguments_);
    }
  }
  TraceRegion(const TraceRegion&) = delete;
  TraceRegion& operator=(const TraceRegion&) = delete;

  /// Whether anybody will see arguments.
  bool recorded() const { return name_ != nullptr; }
  /// Members of a JSON object, without the braces.
  void set_arguments(std::string members) { arguments_ = std::move(members); }

 private:
  const char* name_;
  TraceDetail detail_;
  std::int64_t begin_ns_ = 0;
  std::string arguments_;
};

}  // namespace chunkstate
