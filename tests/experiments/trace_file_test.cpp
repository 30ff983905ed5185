// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/trace_file.hpp"

#include <nlohmann/json.hpp>

#include "tests/catch.hpp"

using namespace chunkstate;

namespace {

nlohmann::json written(const TraceContent& content, std::int64_t begin_ns) {
  std::string text = trace_head(R"({"experiment":"x"})");
  bool is_first = true;
  write_trace_events(content, {2, "rank 2, \"node\"", [&](std::int64_t t) { return t - begin_ns; }},
                     [&](std::string_view piece) {
                       text += is_first ? "" : ",\n";
                       text += piece;
                       is_first = false;
                     });
  text += trace_tail();
  return nlohmann::json::parse(text);
}

std::vector<nlohmann::json> spans_of(const nlohmann::json& file) {
  std::vector<nlohmann::json> spans;
  for (const auto& event : file["traceEvents"]) {
    if (event["ph"] == "X") spans.push_back(event);
  }
  return spans;
}

}  // namespace

TEST_CASE("spans are written with microseconds since the begin, what encloses first") {
  TraceContent content;
  content.tracks = {"thread 0"};
  content.arguments = {R"("point":3,"variant":"default")"};
  content.spans = {{"inner", 5'000, 6'001, 0, -1}, {"outer", 5'000, 9'000, 0, 0}};
  const nlohmann::json file = written(content, 3'999);
  CHECK(file["otherData"]["experiment"] == "x");
  const auto spans = spans_of(file);
  REQUIRE(spans.size() == 2);
  CHECK(spans[0]["name"] == "outer");
  CHECK(spans[0]["pid"] == 2);
  CHECK(spans[0]["ts"].get<double>() == Approx(1.001));
  CHECK(spans[0]["dur"].get<double>() == Approx(4.0));
  CHECK(spans[0]["args"]["variant"] == "default");
  CHECK(spans[1]["name"] == "inner");
  CHECK(spans[1]["dur"].get<double>() == Approx(1.001));
  CHECK(file["traceEvents"][0]["args"]["name"] == "rank 2, \"node\"");
}

TEST_CASE("kernels of a stream that overlap are shown in lanes, each with a name") {
  TraceContent content;
  content.tracks = {"thread 0", "GPU 0, stream 7"};
  content.spans = {{"a", 0, 100, 1, -1}, {"b", 50, 150, 1, -1}, {"c", 100, 120, 1, -1}};
  const nlohmann::json file = written(content, 0);
  const auto spans = spans_of(file);
  REQUIRE(spans.size() == 3);
  CHECK(spans[0]["tid"] == spans[2]["tid"]);
  CHECK(spans[0]["tid"] != spans[1]["tid"]);
  std::vector<std::string> names;
  for (const auto& event : file["traceEvents"]) {
    if (event["name"] == "thread_name") names.push_back(event["args"]["name"]);
  }
  CHECK(names == std::vector<std::string>{"GPU 0, stream 7", "GPU 0, stream 7 (2)"});
}

TEST_CASE("names that are no text and a file of several pieces stay JSON") {
  TraceContent content;
  content.tracks = {"thread 0"};
  for (std::int64_t i = 0; i < 30'000; ++i) {
    content.spans.push_back({i % 2 == 0 ? "bad \xff\"\n name" : "good", 10 * i, 10 * i + 5, 0, -1});
  }
  CHECK(spans_of(written(content, 0)).size() == 30'000);
}
