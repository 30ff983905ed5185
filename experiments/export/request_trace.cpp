// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "experiments/analysis/run_comparison.hpp"
#include "experiments/export/export.hpp"
#include "experiments/export/start_time.hpp"

namespace chunkstate {
namespace {

using Json = nlohmann::ordered_json;

Json span(const char* name, std::int64_t process, double start, double seconds) {
  return {{"name", name}, {"cat", "host"},     {"ph", "X"},           {"pid", process},
          {"tid", 0},     {"ts", 1e6 * start}, {"dur", 1e6 * seconds}};
}

}  // namespace

std::string export_trace(const StoredResults& results) {
  // Starts of a run that was resumed lie one behind the other, to the second.
  double begin = std::numeric_limits<double>::infinity();
  for (std::size_t process = 0; process < results.processes.size(); ++process) {
    begin = std::fmin(begin, start_seconds(results, static_cast<std::int64_t>(process)));
  }
  const auto offset = [&](std::int64_t process) {
    const double own = start_seconds(results, process) - begin;
    return std::isfinite(own) ? own : 0.0;
  };

  Json events = Json::array();
  std::set<std::int64_t> named;
  for (const RequestRecord& request : results.requests) {
    if (!std::isfinite(request.t_start) || !std::isfinite(request.e2e)) continue;
    const std::int64_t process = std::max<std::int64_t>(request.process, 0);
    if (named.insert(process).second) {
      const bool known = process < static_cast<std::int64_t>(results.processes.size());
      const std::string host =
          known ? ", " + results.processes[static_cast<std::size_t>(process)].host : "";
      events.push_back({{"name", "process_name"},
                        {"ph", "M"},
                        {"pid", process},
                        {"args", {{"name", "rank " + std::to_string(request.rank) + host}}}});
    }
    const double start = offset(process) + request.t_start;
    Json whole = span("request", process, start, request.e2e);
    whole["args"] = {
        {"item", request.item_id},
        {"point", point_name(results.spec.points[static_cast<std::size_t>(request.point)])},
        {"prompt", request.prompt},
        {"repeat", request.repeat},
        {"tokens_in", request.tokens_in},
        {"tokens_out", request.tokens_out()}};
    events.push_back(std::move(whole));
    if (!std::isfinite(request.ttft)) continue;
    events.push_back(span("prefill", process, start, request.ttft));
    if (request.e2e > request.ttft) {
      events.push_back(span("decode", process, start + request.ttft, request.e2e - request.ttft));
    }
  }
  const Json file = {{"traceEvents", std::move(events)},
                     {"displayTimeUnit", "ms"},
                     {"otherData", {{"experiment", results.spec.name}}}};
  return file.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace chunkstate
