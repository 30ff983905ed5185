// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace chunkstate {

/// Which process on which boot of which machine. Process ids are reused; together with the boot and
/// the start time they are not.
struct ProcessIdentity {
  std::string host;
  std::int64_t pid = -1;
  std::string boot_id;  // of the kernel: changes at every boot; containers of a host share it
  std::int64_t start_ticks = -1;  // since that boot, /proc/PID/stat
  bool operator==(const ProcessIdentity&) const = default;
};

ProcessIdentity this_process();

enum class Liveness : std::uint8_t { alive, dead, unknown };  // unknown: runs on another machine

/// Asks this machine's /proc.
Liveness liveness(const ProcessIdentity& process);

/// "2026-11-21T10:31:02.123456Z"
std::string utc_now();

}  // namespace chunkstate
