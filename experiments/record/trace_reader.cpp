// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/trace_reader.hpp"

#include <simdjson.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "core/errors.hpp"

namespace chunkstate {
namespace {

using simdjson::dom::element;

const std::string* kept(StoredTrace& trace, const element& text) {
  return &*trace.texts.emplace(std::string_view(text)).first;
}

}  // namespace

StoredTrace read_trace(const std::filesystem::path& file) {
  StoredTrace trace;
  try {
    simdjson::dom::parser parser;
    const element content = parser.load(file.string());
    const element facts = content["otherData"];
    trace.experiment = std::string_view(facts["experiment"]);
    for (const element rank : facts["ranks"]) {
      ++trace.ranks;
      trace.dropped += std::int64_t(rank["dropped"]);
    }
    for (const element event : content["traceEvents"]) {
      if (std::string_view(event["ph"]) != "X") continue;
      StoredSpan span{kept(trace, event["name"]), kept(trace, event["cat"]), nullptr,
                      double(event["ts"]), 0};
      span.end = span.begin + double(event["dur"]);
      if (*span.name == "request") span.variant = kept(trace, event["args"]["variant"]);
      trace.spans[std::int64_t(event["pid"])].push_back(span);
    }
  } catch (const simdjson::simdjson_error& error) {
    throw InputError(file.string() + ": no timeline of this program: " + error.what());
  }
  return trace;
}

double time_within(const std::vector<StoredSpan>& spans, const std::set<std::string>& names) {
  std::vector<std::pair<double, double>> found;
  for (const StoredSpan& span : spans) {
    if (*span.place == "host" && names.count(*span.name) > 0) {
      found.emplace_back(span.begin, span.end);
    }
  }
  std::sort(found.begin(), found.end());
  double total = 0;
  double covered = 0;  // up to here
  for (const auto& [begin, end] : found) {
    if (end <= covered) continue;
    total += end - std::max(begin, covered);
    covered = end;
  }
  return total;
}

}  // namespace chunkstate
