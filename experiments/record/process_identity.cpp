// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/process_identity.hpp"

#include <unistd.h>

#include <array>
#include <chrono>
#include <climits>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <sstream>

namespace chunkstate {
namespace {

std::string boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

/// Field 22 of /proc/PID/stat; -1 if there is no such process.
std::int64_t start_ticks(std::int64_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  // The second field, the name in parentheses, may itself hold blanks and parentheses.
  const std::size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return -1;
  std::istringstream fields(line.substr(name_end + 1));
  std::string state;
  fields >> state;
  if (state == "Z" || state == "X") return -1;
  std::string skipped;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  std::int64_t ticks = -1;
  fields >> ticks;
  return fields ? ticks : -1;
}

}  // namespace

ProcessIdentity this_process() {
  std::array<char, HOST_NAME_MAX + 1> host{};
  ::gethostname(host.data(), host.size() - 1);
  const std::int64_t pid = ::getpid();
  return {host.data(), pid, boot_id(), start_ticks(pid)};
}

Liveness liveness(const ProcessIdentity& process) {
  if (process.boot_id != boot_id()) {
    char host[HOST_NAME_MAX + 1] = "";
    ::gethostname(host, sizeof(host) - 1);
    return process.host == host ? Liveness::dead : Liveness::unknown;  // rebooted since
  }
  const std::int64_t ticks = start_ticks(process.pid);
  return ticks >= 0 && ticks == process.start_ticks ? Liveness::alive : Liveness::dead;
}

std::string utc_now() {
  using std::chrono::duration_cast;
  using std::chrono::microseconds;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::int64_t micros = duration_cast<microseconds>(now).count();
  const std::time_t seconds = static_cast<std::time_t>(micros / 1'000'000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char date[32] = "";
  std::strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
  char text[48] = "";
  std::snprintf(text, sizeof(text), "%s.%06dZ", date, static_cast<int>(micros % 1'000'000));
  return text;
}

}  // namespace chunkstate
