// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/trace.hpp"

#include <time.h>

#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>

#include "kernels/base/device_trace.hpp"

#if CHUNKSTATE_HAS_CUDA
#include <nvtx3/nvToolsExt.h>
#endif

namespace chunkstate {
namespace {

// Everything that this process has recorded. The GPU's records come from a thread of CUPTI's.
struct Recorder {
  std::mutex mutex;
  TraceLimits limits;
  std::int64_t phases = 0;
  std::int64_t steps = 0;
  std::int64_t dropped = 0;
  std::deque<TraceSpan> spans;  // grows without moving what is there
  std::vector<std::string> arguments;
  std::vector<std::string> tracks;
  std::map<std::pair<int, std::int64_t>, std::int32_t> track_of;  // device (-1: host), stream
  std::string device;

  bool takes(TraceDetail detail) {
    std::int64_t& count = detail == TraceDetail::phase ? phases : steps;
    if (count >= (detail == TraceDetail::phase ? limits.phases : limits.steps)) {
      ++dropped;
      return false;
    }
    ++count;
    return true;
  }

  std::int32_t track(int of_device, std::int64_t stream) {
    const auto [place, is_new] =
        track_of.try_emplace({of_device, stream}, static_cast<std::int32_t>(tracks.size()));
    if (is_new) {
      tracks.push_back(of_device < 0 ? "thread " + std::to_string(stream)
                                     : "GPU " + std::to_string(of_device) + ", stream " +
                                           std::to_string(stream));
    }
    return place->second;
  }
};

Recorder& recorder() {
  static Recorder one;
  return one;
}

std::int64_t number_of_this_thread() {
  static std::atomic<std::int64_t> next{0};
  thread_local const std::int64_t number = next++;
  return number;
}

}  // namespace

std::int64_t trace_clock() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void start_trace(bool device, const TraceLimits& limits) {
  if (trace::is_on) throw std::logic_error("start_trace: a trace is on");
  Recorder& all = recorder();
  {
    const std::lock_guard lock(all.mutex);
    all.limits = limits;
    all.track(-1, number_of_this_thread());
  }
  trace::is_on = true;
  all.device = device ? start_device_trace() : "no GPU backend in use";
}

TraceContent stop_trace() {
  Recorder& all = recorder();
  if (trace::is_on.exchange(false)) stop_device_trace();
  const std::lock_guard lock(all.mutex);
  TraceContent content;
  content.spans.assign(all.spans.begin(), all.spans.end());
  content.arguments = std::move(all.arguments);
  content.tracks = std::move(all.tracks);
  content.dropped = all.dropped;
  content.device = std::move(all.device);
  all.spans.clear();
  all.arguments.clear();
  all.tracks.clear();
  all.track_of.clear();
  all.phases = all.steps = all.dropped = 0;
  return content;
}

namespace trace {

void push([[maybe_unused]] const char* name) {
#if CHUNKSTATE_HAS_CUDA
  nvtxRangePushA(name);
#endif
}

void pop(const char* name, std::int64_t begin_ns, TraceDetail detail,
         const std::string* arguments) {
  const std::int64_t end_ns = trace_clock();
#if CHUNKSTATE_HAS_CUDA
  nvtxRangePop();
#endif
  if (!is_on.load(std::memory_order_relaxed)) return;
  Recorder& all = recorder();
  const std::lock_guard lock(all.mutex);
  if (!all.takes(detail)) return;
  std::int32_t index = -1;
  if (arguments != nullptr) {
    index = static_cast<std::int32_t>(all.arguments.size());
    all.arguments.push_back(*arguments);
  }
  all.spans.push_back({name, begin_ns, end_ns, all.track(-1, number_of_this_thread()), index});
}

void add_device_span(const char* name, std::int64_t begin_ns, std::int64_t end_ns, int device,
                     std::uint32_t stream) {
  static std::set<std::string> names;  // few: kernels, not launches
  Recorder& all = recorder();
  const std::lock_guard lock(all.mutex);
  if (!all.takes(TraceDetail::step)) return;
  all.spans.push_back(
      {names.emplace(name).first->c_str(), begin_ns, end_ns, all.track(device, stream), -1});
}

void add_dropped(std::int64_t spans) {
  Recorder& all = recorder();
  const std::lock_guard lock(all.mutex);
  all.dropped += spans;
}

}  // namespace trace
}  // namespace chunkstate
