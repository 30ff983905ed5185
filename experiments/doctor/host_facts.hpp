// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

// What Linux tells of processors and devices. `root` is "/" but in tests.
namespace chunkstate {

/// Processors' worth of time that the control groups of this process allow it (a container's limit,
/// `cpu.max` or the quota before it); 0 without a limit.
double cpu_limit(const std::filesystem::path& root = "/");

/// The logical processors that the control group of this process may use, whatever the process
/// itself is bound to: "0-63".
std::string group_cpus(const std::filesystem::path& root = "/");

/// Physical cores that these logical processors belong to; -1 if unknown.
std::int64_t physical_cores(const std::vector<int>& cpus, const std::filesystem::path& root = "/");

/// Where a PCI device, "0000:3b:00.0", is attached.
struct PciPlace {
  std::int64_t numa = -1;  // -1: not known, or there is only one node
  std::string cpus;        // those next to it
};
PciPlace pci_place(const std::string& bus_id, const std::filesystem::path& root = "/");

/// NVIDIA GPUs that the kernel's driver has, whether this process may use them or not.
std::int64_t driver_gpus(const std::filesystem::path& root = "/");

}  // namespace chunkstate
