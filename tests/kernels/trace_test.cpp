// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/trace.hpp"

#include <algorithm>
#include <stdexcept>
#include <thread>

#include "kernels/base/device_trace.hpp"
#include "tests/catch.hpp"

using namespace chunkstate;

namespace {

const TraceSpan* find(const TraceContent& content, const std::string& name) {
  for (const TraceSpan& span : content.spans) {
    if (name == span.name) return &span;
  }
  return nullptr;
}

}  // namespace

TEST_CASE("without a trace regions leave nothing") {
  { const TraceRegion region("outside"); }
  CHECK(stop_trace().spans.empty());
}

TEST_CASE("regions become spans that enclose what they enclosed") {
  start_trace(false);
  CHECK_THROWS_AS(start_trace(false), std::logic_error);
  const std::int64_t before = trace_clock();
  {
    TraceRegion outer("outer");
    CHECK(outer.recorded());
    outer.set_arguments("\"point\":3");
    const TraceRegion inner("inner", TraceDetail::step);
  }
  const std::int64_t after = trace_clock();
  std::thread([] { const TraceRegion other("other thread"); }).join();
  const TraceRegion open("still open");
  const TraceContent content = stop_trace();

  REQUIRE(content.spans.size() == 3);
  const TraceSpan* outer = find(content, "outer");
  const TraceSpan* inner = find(content, "inner");
  const TraceSpan* other = find(content, "other thread");
  REQUIRE((outer != nullptr && inner != nullptr && other != nullptr));
  CHECK(before <= outer->begin_ns);
  CHECK(outer->begin_ns <= inner->begin_ns);
  CHECK(inner->begin_ns <= inner->end_ns);
  CHECK(inner->end_ns <= outer->end_ns);
  CHECK(outer->end_ns <= after);
  CHECK(outer->track == inner->track);
  CHECK(outer->track != other->track);
  CHECK(content.arguments.at(static_cast<std::size_t>(outer->arguments)) == "\"point\":3");
  CHECK(inner->arguments == -1);
  CHECK(content.tracks.size() == 2);
  CHECK(content.dropped == 0);
  CHECK(content.device == "no GPU backend in use");
}

TEST_CASE("a full trace drops steps before phases and counts them") {
  start_trace(false, {3, 5});
  for (int i = 0; i < 10; ++i) const TraceRegion step("step", TraceDetail::step);
  for (int i = 0; i < 4; ++i) const TraceRegion phase("phase");
  const TraceContent content = stop_trace();
  const auto count = [&](const char* name) {
    return std::count_if(content.spans.begin(), content.spans.end(),
                         [&](const TraceSpan& span) { return std::string(name) == span.name; });
  };
  CHECK(count("step") == 5);
  CHECK(count("phase") == 3);
  CHECK(content.dropped == 6);
  start_trace(false);
  CHECK(stop_trace().dropped == 0);
}

TEST_CASE("what a GPU does gets a track per device and stream") {
  start_trace(false);
  trace::add_device_span("fill", 10, 20, 0, 7);
  trace::add_device_span("fill", 20, 30, 0, 13);
  trace::add_device_span(std::string("copy").c_str(), 30, 40, 0, 7);
  trace::add_dropped(2);
  const TraceContent content = stop_trace();
  CHECK(content.dropped == 2);
  REQUIRE(content.spans.size() == 3);
  CHECK(content.tracks[static_cast<std::size_t>(content.spans[0].track)] == "GPU 0, stream 7");
  CHECK(content.spans[0].track == content.spans[2].track);
  CHECK(content.spans[0].track != content.spans[1].track);
  CHECK(std::string(content.spans[2].name) == "copy");
}

TEST_CASE("kernels have short names") {
  CHECK(short_kernel_name("_ZN10chunkstate4cuda12_GLOBAL__N_111read_kernelEPKfl") ==
        "chunkstate::cuda::read_kernel");
  CHECK(short_kernel_name("_ZN10chunkstate4cuda4scanILi4EfEEvPKT0_") == "chunkstate::cuda::scan");
  CHECK(short_kernel_name("gemm_kernel_128x64") == "gemm_kernel_128x64");
  CHECK(short_kernel_name("") == "");
}
