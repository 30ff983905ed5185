// SPDX-License-Identifier: Apache-2.0
#include "experiments/doctor/host_facts.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

namespace chunkstate {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// The path of this process' group in the hierarchy of `controller`; empty: version 2.
std::string group_path(const fs::path& root, const std::string& controller) {
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "4:cpu,cpuacct:/job" or "0::/job"
    const std::size_t names = line.find(':');
    const std::size_t path = line.find(':', names + 1);
    if (path == std::string::npos) continue;
    std::istringstream list(line.substr(names + 1, path - names - 1));
    if (controller.empty() && path == names + 1) return line.substr(path + 1);
    for (std::string name; std::getline(list, name, ',');) {
      if (!controller.empty() && name == controller) return line.substr(path + 1);
    }
  }
  return "";
}

/// From a group's folder up to the hierarchy's. In a container the path may be the host's, and then
/// only the last one exists.
template <class Visit>
void visit_groups(const fs::path& hierarchy, const std::string& group, const Visit& visit) {
  fs::path inner = fs::path(group).relative_path();
  while (true) {
    visit(hierarchy / inner);
    if (inner.empty()) return;
    inner = inner.parent_path();
  }
}

double ratio(double quota, double period) { return quota > 0 && period > 0 ? quota / period : 0; }

}  // namespace

double cpu_limit(const fs::path& root) {
  double least = 0;
  const auto take = [&](double limit) {
    if (limit > 0 && (least == 0 || limit < least)) least = limit;
  };
  for (const char* hierarchy : {"sys/fs/cgroup", "sys/fs/cgroup/unified"}) {
    visit_groups(root / hierarchy, group_path(root, ""), [&](const fs::path& folder) {
      std::istringstream words(first_line(folder / "cpu.max"));  // "200000 100000" or "max 100000"
      double quota = 0, period = 0;
      if (words >> quota >> period) take(ratio(quota, period));
    });
  }
  for (const char* hierarchy : {"sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"}) {
    visit_groups(root / hierarchy, group_path(root, "cpu"), [&](const fs::path& folder) {
      const std::string quota = first_line(folder / "cpu.cfs_quota_us");  // -1: none
      const std::string period = first_line(folder / "cpu.cfs_period_us");
      take(ratio(std::atof(quota.c_str()), std::atof(period.c_str())));
    });
  }
  return least;
}

std::string group_cpus(const fs::path& root) {
  std::string cpus;  // of the innermost group that says so
  const auto look = [&](const char* hierarchy, const char* controller, const char* name) {
    visit_groups(root / hierarchy, group_path(root, controller), [&](const fs::path& folder) {
      if (cpus.empty()) cpus = first_line(folder / name);
    });
  };
  look("sys/fs/cgroup", "", "cpuset.cpus.effective");
  look("sys/fs/cgroup/cpuset", "cpuset", "cpuset.effective_cpus");
  look("sys/fs/cgroup/cpuset", "cpuset", "cpuset.cpus");
  return cpus.empty() ? first_line(root / "sys/devices/system/cpu/online") : cpus;
}

std::int64_t physical_cores(const std::vector<int>& cpus, const fs::path& root) {
  std::set<std::string> cores;
  for (const int cpu : cpus) {
    const fs::path topology =
        root / "sys/devices/system/cpu" / ("cpu" + std::to_string(cpu)) / "topology";
    const std::string siblings = first_line(topology / "thread_siblings_list");
    if (siblings.empty()) return -1;
    cores.insert(siblings);
  }
  return cores.empty() ? -1 : static_cast<std::int64_t>(cores.size());
}

PciPlace pci_place(const std::string& bus_id, const fs::path& root) {
  PciPlace place;
  if (bus_id.empty()) return place;
  const fs::path device = root / "sys/bus/pci/devices" / bus_id;
  const std::string numa = first_line(device / "numa_node");
  if (!numa.empty()) place.numa = std::atoll(numa.c_str());
  place.cpus = first_line(device / "local_cpulist");
  return place;
}

std::int64_t driver_gpus(const fs::path& root) {
  std::int64_t count = 0;
  std::error_code failed;
  for (fs::directory_iterator entry(root / "proc/driver/nvidia/gpus", failed), end;
       !failed && entry != end; entry.increment(failed)) {
    ++count;
  }
  return count;
}

}  // namespace chunkstate
