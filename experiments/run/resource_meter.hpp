// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace chunkstate {

/// What one request used. NaN where the system does not tell.
struct ResourceUse {
  double cpu_percent;        // user + system time of this process per wall time; 100 is one core
  double io_wait;            // share of this host's CPU time spent idle with block I/O outstanding
  double peak_memory_bytes;  // largest resident set of this process since start(), shared pages
                             // included
};

/// Reads /proc around a request. start() also resets the kernel's high-water mark of resident
/// memory, so the peak belongs to the request and not to the process's past; beside other requests,
/// which began with a reset, it must not.
class ResourceMeter {
 public:
  void start(bool reset_peak = true);
  ResourceUse stop() const;

 private:
  struct Ticks {
    std::uint64_t io_wait = 0;
    std::uint64_t total = 0;
  };
  static double process_cpu_seconds();
  static Ticks host_ticks();

  double start_seconds_ = 0;
  double start_cpu_seconds_ = 0;
  Ticks start_ticks_;
  bool peak_was_reset_ = false;
};

/// Bytes of the host's memory that can still be taken; NaN where /proc does not say.
double available_memory_bytes();

}  // namespace chunkstate
