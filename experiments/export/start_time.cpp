// SPDX-License-Identifier: Apache-2.0
#include "experiments/export/start_time.hpp"

#include <ctime>
#include <limits>

namespace chunkstate {

double start_seconds(const StoredResults& results, std::int64_t process) {
  constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
  if (process < 0 || process >= static_cast<std::int64_t>(results.processes.size())) {
    return unknown;
  }
  const std::string& utc = results.processes[static_cast<std::size_t>(process)].start_utc;
  std::tm time{};
  const char* end = ::strptime(utc.c_str(), "%Y-%m-%dT%H:%M:%S", &time);
  return end == nullptr ? unknown : static_cast<double>(::timegm(&time));
}

}  // namespace chunkstate
