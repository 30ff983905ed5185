// SPDX-License-Identifier: Apache-2.0
#include "experiments/analysis/disturbance.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "experiments/analysis/summary.hpp"

namespace chunkstate {
namespace {

// The processor's share says nothing of a request whose work is on a GPU.
bool counts(const StoredResults& results, const RequestRecord& request) {
  if (request.status != RequestStatus::done || std::isnan(request.cpu_percent)) return false;
  const auto process = static_cast<std::size_t>(request.process);
  return request.process < 0 || process >= results.processes.size() ||
         results.processes[process].backend != "cuda";
}

bool slowed_by_heat(const RequestRecord& request) {
  for (std::size_t i = 0; i < throttle_reasons.size(); ++i) {
    if (throttle_reasons[i].disturbs && is_throttled_by(request.throttled, i)) return true;
  }
  return false;
}

}  // namespace

std::vector<bool> disturbed_requests(const StoredResults& results) {
  std::map<std::int64_t, std::vector<double>> shares;
  for (const RequestRecord& request : results.requests) {
    if (counts(results, request)) shares[request.point].push_back(request.cpu_percent);
  }
  std::map<std::int64_t, double> least;
  for (auto& [point, values] : shares) {
    if (values.size() < fewest_for_usual_cpu) continue;
    std::sort(values.begin(), values.end());
    least[point] = undisturbed_cpu_share * quantile(values, 0.5);
  }
  std::vector<bool> disturbed;
  for (const RequestRecord& request : results.requests) {
    const auto found = least.find(request.point);
    disturbed.push_back(
        slowed_by_heat(request) ||
        (counts(results, request) && found != least.end() && request.cpu_percent < found->second));
  }
  return disturbed;
}

}  // namespace chunkstate
