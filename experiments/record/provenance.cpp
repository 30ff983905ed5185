// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/provenance.hpp"

#include <gnu/libc-version.h>
#include <hdf5.h>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <sstream>
#include <type_traits>

#include "experiments/record/process_identity.hpp"

namespace chunkstate {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// The value of the first "key : value" (or key=value) line of a file of such lines.
std::string value_of(const std::string& path, const std::string& key, char separator) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t at = line.find(separator);
    if (at == std::string::npos || line.compare(0, key.size(), key) != 0) continue;
    if (line.find_first_not_of(" \t", key.size()) != at) continue;
    std::size_t begin = line.find_first_not_of(" \t\"", at + 1);
    if (begin == std::string::npos) return "";
    return line.substr(begin, line.find_last_not_of(" \t\"") + 1 - begin);
  }
  return "";
}

std::int64_t to_integer(const std::string& text, std::int64_t otherwise) {
  std::int64_t value = otherwise;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::vector<int> allowed_cpus() {
  std::vector<int> cpus;
  // The kernel refuses a set smaller than its own mask, which may be larger than CPU_SETSIZE.
  for (int count = 1024; count <= 65536; count *= 4) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(count));
    if (set == nullptr) return cpus;
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(count));
    CPU_ZERO_S(bytes, set);
    const bool known = sched_getaffinity(0, bytes, set) == 0;
    for (int cpu = 0; known && cpu < count; ++cpu) {
      if (CPU_ISSET_S(static_cast<std::size_t>(cpu), bytes, set)) cpus.push_back(cpu);
    }
    CPU_FREE(set);
    if (known) break;
  }
  return cpus;
}

std::int64_t physical_cores(std::int64_t processors) {
  std::set<std::pair<std::string, std::string>> cores;
  for (std::int64_t cpu = 0; cpu < processors; ++cpu) {
    const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    const std::string core = first_line(topology + "core_id");
    if (!core.empty()) cores.emplace(first_line(topology + "physical_package_id"), core);
  }
  return cores.empty() ? -1 : static_cast<std::int64_t>(cores.size());
}

std::string numa_nodes(const std::vector<int>& cpus) {
  std::vector<int> nodes;
  for (const int node : parse_cpu_list(first_line("/sys/devices/system/node/online"))) {
    const auto of_node = parse_cpu_list(
        first_line("/sys/devices/system/node/node" + std::to_string(node) + "/cpulist"));
    if (std::find_first_of(of_node.begin(), of_node.end(), cpus.begin(), cpus.end()) !=
        of_node.end()) {
      nodes.push_back(node);
    }
  }
  return cpu_list(nodes);
}

/// The fields of a RankProvenance once, for both directions.
template <class Provenance, class Visit>
void for_each_field(Provenance& p, const Visit& visit) {
  visit("rank", p.rank);
  visit("ranks", p.ranks);
  visit("local_rank", p.local_rank);
  visit("host", p.host);
  visit("pid", p.pid);
  visit("start_utc", p.start_utc);
  visit("cpu_model", p.cpu_model);
  visit("cores", p.cores);
  visit("processors", p.processors);
  visit("cpus", p.cpus);
  visit("numa", p.numa);
  visit("governor", p.governor);
  visit("memory_bytes", p.memory_bytes);
  visit("os", p.os);
  visit("kernel", p.kernel);
  visit("threads", p.threads);
  visit("backend", p.backend);
  visit("gpu_name", p.gpu_name);
  visit("gpu_uuid", p.gpu_uuid);
  visit("pci_bus_id", p.pci_bus_id);
  visit("gpu_numa", p.gpu_numa);
  visit("driver", p.driver);
}

}  // namespace

std::string cpu_list(const std::vector<int>& cpus) {
  std::string text;
  for (std::size_t i = 0; i < cpus.size();) {
    std::size_t last = i;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    if (!text.empty()) text += ',';
    text += std::to_string(cpus[i]);
    if (last > i) text += '-' + std::to_string(cpus[last]);
    i = last + 1;
  }
  return text;
}

std::vector<int> parse_cpu_list(const std::string& text) {
  std::vector<int> cpus;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const std::size_t dash = part.find('-');
    const auto first = to_integer(part, -1);
    const auto last = dash == std::string::npos ? first : to_integer(part.substr(dash + 1), -1);
    for (auto cpu = first; cpu >= 0 && cpu <= last && cpu < 65536; ++cpu) {
      cpus.push_back(static_cast<int>(cpu));
    }
  }
  return cpus;
}

RankProvenance collect_rank_provenance() {
  RankProvenance p;
  const ProcessIdentity process = this_process();
  p.host = process.host;
  p.pid = process.pid;
  p.start_utc = utc_now();
  p.cpu_model = value_of("/proc/cpuinfo", "model name", ':');
  p.processors = sysconf(_SC_NPROCESSORS_ONLN);
  p.cores = physical_cores(sysconf(_SC_NPROCESSORS_CONF));
  const std::vector<int> cpus = allowed_cpus();
  p.cpus = cpu_list(cpus);
  p.numa = numa_nodes(cpus);
  if (!cpus.empty()) {
    p.governor = first_line("/sys/devices/system/cpu/cpu" + std::to_string(cpus.front()) +
                            "/cpufreq/scaling_governor");
  }
  p.memory_bytes = sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGE_SIZE);
  p.os = value_of("/etc/os-release", "PRETTY_NAME", '=');
  utsname names{};
  if (uname(&names) == 0) p.kernel = std::string(names.release) + " " + names.machine;
  return p;
}

std::string to_json(const RankProvenance& provenance) {
  nlohmann::json json = nlohmann::json::object();
  for_each_field(provenance, [&](const char* name, const auto& value) { json[name] = value; });
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

RankProvenance rank_provenance_from_json(const std::string& text) {
  RankProvenance provenance;
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return provenance;
  for_each_field(provenance, [&](const char* name, auto& value) {
    const auto found = json.find(name);
    if (found == json.end()) return;
    if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::string>) {
      if (found->is_string()) value = found->template get<std::string>();
    } else if (found->is_number_integer()) {
      value = found->template get<std::int64_t>();
    }
  });
  return provenance;
}

RunProvenance collect_run_provenance(const std::vector<std::string>& argv,
                                     const std::string& mpi_version) {
  RunProvenance run;
  run.start_utc = utc_now();
  run.argv = argv;

  const BuildInfo& build = build_info();
  run.build = {{"version", build.version},
               {"git_commit", build.git_commit},
               {"git_dirty", build.git_dirty ? "true" : "false"},
               {"git_diff", build.git_diff},
               {"compiler", build.compiler},
               {"build_type", build.build_type},
               {"flags", build.flags},
               {"cuda", build.cuda ? "true" : "false"}};
  for (const auto& library : build.libraries) run.build.push_back(library);
  unsigned major = 0;
  unsigned minor = 0;
  unsigned release = 0;
  H5get_libversion(&major, &minor, &release);
  run.build.emplace_back(
      "hdf5", std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(release));
  run.build.emplace_back("glibc", gnu_get_libc_version());
  run.build.emplace_back("mpi", mpi_version);

  // Where and how the job runs; nothing that could hold a secret (SLURM_JWT) or grows with the job.
  for (const char* name :
       {"SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_JOB_PARTITION",
        "SLURM_JOB_NODELIST", "SLURM_JOB_NUM_NODES", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE",
        "SLURM_CPUS_PER_TASK", "SLURM_GPUS_PER_NODE", "SLURM_GPUS_ON_NODE", "SLURM_MEM_PER_NODE",
        "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT",
        "SLURM_RESTART_COUNT", "SLURM_CPU_BIND"}) {
    if (const char* value = std::getenv(name)) run.slurm.emplace_back(name, value);
  }

  std::string compact;  // 20261121T103102Z
  for (const char c : run.start_utc.substr(0, 19)) {
    if (c != '-' && c != ':') compact += c;
  }
  std::random_device random;
  char suffix[16] = "";
  std::snprintf(suffix, sizeof(suffix), "Z-%08x", static_cast<unsigned>(random()));
  run.run_id = compact + suffix;
  return run;
}

}  // namespace chunkstate
