// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "experiments/analysis/run_comparison.hpp"
#include "experiments/export/export.hpp"
#include "experiments/export/start_time.hpp"

namespace chunkstate {
namespace {

using Json = nlohmann::ordered_json;

struct Row {
  std::int64_t process;
  std::int64_t track;
};

Json span(const char* name, const Row& row, double start, double seconds) {
  return {{"name", name},     {"cat", "host"},     {"ph", "X"},           {"pid", row.process},
          {"tid", row.track}, {"ts", 1e6 * start}, {"dur", 1e6 * seconds}};
}

bool is_drawn(const RequestRecord& request) {
  return std::isfinite(request.t_start) && std::isfinite(request.e2e);
}

/// Where each request is drawn. Those of a batch overlap: a process has as many tracks as it takes.
std::vector<Row> rows_of(const std::vector<RequestRecord>& requests) {
  std::vector<std::size_t> by_start;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (is_drawn(requests[i])) by_start.push_back(i);
  }
  std::ranges::stable_sort(by_start, {}, [&](std::size_t i) { return requests[i].t_start; });
  std::map<std::int64_t, std::vector<double>> ends;  // of a process' tracks
  std::vector<Row> rows(requests.size());
  for (const std::size_t i : by_start) {
    const RequestRecord& request = requests[i];
    const std::int64_t process = std::max<std::int64_t>(request.process, 0);
    std::vector<double>& tracks = ends[process];
    const auto free =
        std::ranges::find_if(tracks, [&](double end) { return end <= request.t_start; });
    rows[i] = {process, free - tracks.begin()};
    const double end = request.t_start + request.e2e;
    if (free == tracks.end()) {
      tracks.push_back(end);
    } else {
      *free = end;
    }
  }
  return rows;
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
  const std::vector<Row> rows = rows_of(results.requests);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const RequestRecord& request = results.requests[i];
    if (!is_drawn(request)) continue;
    const std::int64_t process = rows[i].process;
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
    Json whole = span("request", rows[i], start, request.e2e);
    whole["args"] = {
        {"item", request.item_id},
        {"point", point_name(results.spec.points[static_cast<std::size_t>(request.point)])},
        {"prompt", request.prompt},
        {"repeat", request.repeat},
        {"tokens_in", request.tokens_in},
        {"tokens_out", request.tokens_out()}};
    events.push_back(std::move(whole));
    if (!std::isfinite(request.ttft)) continue;
    events.push_back(span("prefill", rows[i], start, request.ttft));
    if (request.e2e > request.ttft) {
      events.push_back(span("decode", rows[i], start + request.ttft, request.e2e - request.ttft));
    }
  }
  const Json file = {{"traceEvents", std::move(events)},
                     {"displayTimeUnit", "ms"},
                     {"otherData", {{"experiment", results.spec.name}}}};
  return file.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace chunkstate
