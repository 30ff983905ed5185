// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/trace_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

namespace chunkstate {
namespace {

constexpr std::size_t piece_bytes = std::size_t{1} << 20;
constexpr std::int32_t lane_stride = 10'000;  // more than tracks of a rank

std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Microseconds with the nanoseconds behind the point.
void append_time(std::string& text, std::int64_t ns) {
  fmt::format_to(std::back_inserter(text), "{}.{:03}", ns / 1000, ns % 1000);
}

/// Collects events and passes them on in pieces.
class Pieces {
 public:
  explicit Pieces(const std::function<void(std::string_view)>& sink) : sink_(sink) {}
  /// The text of a new event is to be appended to this.
  std::string& next() {
    if (text_.size() >= piece_bytes) flush();
    if (!text_.empty()) text_ += ",\n";
    return text_;
  }
  void flush() {
    if (!text_.empty()) sink_(text_);
    text_.clear();
  }

 private:
  const std::function<void(std::string_view)>& sink_;
  std::string text_;
};

class Writer {
 public:
  Writer(const TraceContent& content, const TraceRank& rank, Pieces& pieces)
      : content_(content), rank_(rank), pieces_(pieces) {}

  void write() {
    name("process_name", -1, rank_.label);
    fmt::format_to(
        std::back_inserter(pieces_.next()),
        R"({{"ph":"M","pid":{0},"name":"process_sort_index","args":{{"sort_index":{0}}}}})",
        rank_.rank);
    for (const TraceSpan& span : content_.spans) sorted_.push_back(&span);
    std::sort(sorted_.begin(), sorted_.end(), [](const TraceSpan* a, const TraceSpan* b) {
      if (a->begin_ns != b->begin_ns) return a->begin_ns < b->begin_ns;
      return a->end_ns > b->end_ns;  // what encloses first
    });
    for (const TraceSpan* span : sorted_) write_span(*span);
  }

 private:
  bool on_device(std::int32_t track) const {
    return content_.tracks[static_cast<std::size_t>(track)].starts_with("GPU");
  }

  void name(const char* what, std::int32_t thread, const std::string& text) {
    const std::string of_thread = thread < 0 ? "" : fmt::format(R"("tid":{},)", thread);
    fmt::format_to(std::back_inserter(pieces_.next()),
                   R"({{"ph":"M","pid":{},{}"name":"{}","args":{{"name":{}}}}})", rank_.rank,
                   of_thread, what, quoted(text));
  }

  // The thread that shows a span; named when it is first seen.
  std::int32_t thread_of(const TraceSpan& span) {
    std::int32_t lane = 0;
    if (on_device(span.track)) {
      std::vector<std::int64_t>& ends = lane_ends_[span.track];
      const auto free = std::find_if(ends.begin(), ends.end(),
                                     [&](std::int64_t end) { return end <= span.begin_ns; });
      lane = static_cast<std::int32_t>(free - ends.begin());
      if (free == ends.end()) ends.emplace_back();
      ends[static_cast<std::size_t>(lane)] = span.end_ns;
    }
    const std::int32_t thread = span.track + lane * lane_stride;
    if (named_.emplace(thread, true).second) {
      const std::string& track = content_.tracks[static_cast<std::size_t>(span.track)];
      name("thread_name", thread, lane == 0 ? track : fmt::format("{} ({})", track, lane + 1));
    }
    return thread;
  }

  void write_span(const TraceSpan& span) {
    const std::int32_t thread = thread_of(span);
    const std::int64_t begin = rank_.shift(span.begin_ns);
    std::string& text = pieces_.next();
    fmt::format_to(std::back_inserter(text),
                   R"({{"ph":"X","pid":{},"tid":{},"cat":"{}","name":{},)", rank_.rank, thread,
                   on_device(span.track) ? "gpu" : "host", quoted_name(span));
    text += "\"ts\":";
    append_time(text, begin);
    text += ",\"dur\":";
    append_time(text, rank_.shift(span.end_ns) - begin);
    if (span.arguments >= 0) {
      text += ",\"args\":{" + content_.arguments[static_cast<std::size_t>(span.arguments)] + "}";
    }
    text += '}';
  }

  const std::string& quoted_name(const TraceSpan& span) {
    std::string& text = quoted_names_[span.name];
    if (text.empty()) text = quoted(span.name);
    return text;
  }

  const TraceContent& content_;
  const TraceRank& rank_;
  Pieces& pieces_;
  std::vector<const TraceSpan*> sorted_;
  std::map<std::int32_t, std::vector<std::int64_t>> lane_ends_;  // of a stream's lanes
  std::map<std::int32_t, bool> named_;
  std::map<const char*, std::string> quoted_names_;
};

}  // namespace

void write_trace_events(const TraceContent& content, const TraceRank& rank,
                        const std::function<void(std::string_view)>& sink) {
  Pieces pieces(sink);
  Writer(content, rank, pieces).write();
  pieces.flush();
}

std::string trace_head(const std::string& other_data) {
  return fmt::format("{{\"displayTimeUnit\":\"ms\",\n\"otherData\":{},\n\"traceEvents\":[\n",
                     other_data);
}

std::string_view trace_tail() { return "\n]}\n"; }

}  // namespace chunkstate
