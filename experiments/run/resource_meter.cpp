// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/resource_meter.hpp"

#include <sys/resource.h>

#include <fstream>
#include <limits>
#include <sstream>
#include <string>

#include "experiments/run/clock.hpp"

namespace chunkstate {
namespace {

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

// A "Key:   123 kB" line of a /proc file.
double proc_kilobytes(const char* file, const std::string& key) {
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line)) {
    if (line.rfind(key, 0) == 0) return std::stod(line.substr(key.size())) * 1024.0;
  }
  return unknown;
}

bool reset_peak_resident() {
  std::ofstream out("/proc/self/clear_refs");
  out << "5";
  out.flush();
  return out.good();
}

}  // namespace

double ResourceMeter::process_cpu_seconds() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return unknown;
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

ResourceMeter::Ticks ResourceMeter::host_ticks() {
  std::ifstream in("/proc/stat");
  std::string label;
  in >> label;
  Ticks ticks;
  std::uint64_t value = 0;
  for (int field = 0; field < 8 && in >> value; ++field) {  // user nice system idle iowait irq ...
    ticks.total += value;
    if (field == 4) ticks.io_wait = value;
  }
  return ticks;
}

void ResourceMeter::start(bool reset_peak) {
  peak_was_reset_ = !reset_peak || reset_peak_resident();
  start_ticks_ = host_ticks();
  start_cpu_seconds_ = process_cpu_seconds();
  start_seconds_ = monotonic_seconds();
}

ResourceUse ResourceMeter::stop() const {
  const double wall = monotonic_seconds() - start_seconds_;
  ResourceUse use{unknown, unknown, unknown};
  if (wall > 0) use.cpu_percent = 100.0 * (process_cpu_seconds() - start_cpu_seconds_) / wall;
  const Ticks ticks = host_ticks();
  const std::uint64_t total = ticks.total - start_ticks_.total;
  // The counter moves in hundredths of a second; a request may be shorter than that.
  if (ticks.total > 0) {
    use.io_wait = total == 0 ? 0.0
                             : static_cast<double>(ticks.io_wait - start_ticks_.io_wait) /
                                   static_cast<double>(total);
  }
  if (peak_was_reset_) use.peak_memory_bytes = proc_kilobytes("/proc/self/status", "VmHWM:");
  return use;
}

double available_memory_bytes() { return proc_kilobytes("/proc/meminfo", "MemAvailable:"); }

}  // namespace chunkstate
