// SPDX-License-Identifier: Apache-2.0
#include "experiments/doctor/rank_facts.hpp"

#include <sys/resource.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/engine_names.hpp"
#include "core/gpu_facts.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/doctor/host_facts.hpp"
#include "experiments/run/experiment_setup.hpp"
#include "experiments/run/telemetry.hpp"
#include "parallel/device_group.hpp"

namespace chunkstate {
namespace {

/// The fields of a RankFacts but `place`, once for both directions.
template <class Facts, class Visit>
void for_each_field(Facts& f, const Visit& visit) {
  visit("build", f.build);
  visit("mpi", f.mpi);
  visit("launched", f.launched);
  visit("step_tasks", f.step_tasks);
  visit("group_cpus", f.group_cpus);
  visit("physical_cores", f.physical_cores);
  visit("cpu_limit", f.cpu_limit);
  visit("visible_gpus", f.visible_gpus);
  visit("gpu_id", f.gpu_id);
  visit("gpu_cpus", f.gpu_cpus);
  visit("gpu_exclusive", f.gpu_exclusive);
  visit("driver_gpus", f.driver_gpus);
  visit("cuda_of_driver", f.driver);
  visit("cuda_of_build", f.runtime);
  visit("gpu_problem", f.gpu_problem);
  visit("nccl", f.nccl);
  visit("shared_memory", f.shared_memory);
  visit("open_files", f.open_files);
  visit("file_bytes", f.file_bytes);
  visit("address_bytes", f.address_bytes);
  visit("environment", f.environment);
}

std::map<std::string, std::string> watched_environment() {
  constexpr std::array<std::string_view, 3> families = {"NCCL_", "OMP_", "CUDA_"};
  constexpr std::array<std::string_view, 3> names = {"GOMP_CPU_AFFINITY", "HDF5_USE_FILE_LOCKING",
                                                     "SLURM_JOB_ID"};
  std::map<std::string, std::string> found;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view name = text.substr(0, equals);
    const auto starts = [&](std::string_view family) { return name.starts_with(family); };
    if (std::any_of(families.begin(), families.end(), starts) ||
        std::find(names.begin(), names.end(), name) != names.end()) {
      found.emplace(name, text.substr(equals + 1));
    }
  }
  return found;
}

std::int64_t limit_of(int resource) {
  rlimit limits{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &limits) != 0) return -1;
  return limits.rlim_cur == RLIM_INFINITY ? -1 : static_cast<std::int64_t>(limits.rlim_cur);
}

std::int64_t number_in(const char* variable) {
  const char* const value = std::getenv(variable);
  return value == nullptr ? 0 : std::atoll(value);
}

void add_gpu(RankFacts& facts, int local_rank) {
  const std::vector<GpuFacts> gpus = visible_gpus();
  for (const GpuFacts& gpu : gpus) facts.visible_gpus.push_back(gpu.pci_bus_id);
  if (gpus.empty()) return;
  take_gpu(local_rank);
  const GpuFacts& mine = gpus[static_cast<std::size_t>(local_rank) % gpus.size()];
  const PciPlace place = pci_place(mine.pci_bus_id);
  facts.gpu_id = mine.uuid;
  facts.gpu_exclusive = mine.exclusive;
  facts.gpu_cpus = place.cpus;
  facts.place.pci_bus_id = mine.pci_bus_id;
  facts.place.gpu_numa = place.numa;
  facts.place.gpu_name = mine.name;
  const GpuMeter meter(Telemetry::Sources().nvml, mine.pci_bus_id);
  facts.place.driver = meter.driver();
  facts.place.gpu_uuid = meter.uuid();
}

}  // namespace

RankFacts collect_rank_facts(Communicator& world, bool with_gpu, std::int64_t threads) {
  RankFacts facts;
  facts.place = collect_rank_provenance();
  facts.place.rank = world.rank();
  facts.place.ranks = world.size();
  facts.place.local_rank = world.local_rank();
  facts.place.threads = threads_per_rank(world, threads);
  facts.build =
      build_info().git_commit + (build_info().git_dirty ? "+" + build_info().git_diff : "");
  facts.mpi = mpi_library_version();
  facts.mpi.resize(std::min(facts.mpi.size(), facts.mpi.find(',')));  // Open MPI adds its packager
  facts.launched = launched_processes();
  facts.step_tasks = number_in("SLURM_STEP_NUM_TASKS");
  facts.group_cpus = cpu_list(parse_cpu_list(group_cpus()));
  facts.physical_cores = physical_cores(parse_cpu_list(facts.place.cpus));
  facts.cpu_limit = cpu_limit();
  facts.driver_gpus = driver_gpus();
  const GpuSoftware software = gpu_software();
  facts.driver = software.driver;
  facts.runtime = software.runtime;
  facts.gpu_problem = software.problem;
  facts.nccl = nccl_version();
  if (with_gpu) add_gpu(facts, world.local_rank());
  facts.place.backend = facts.gpu_id.empty() ? "cpu" : "cuda";
  struct statvfs space {};
  if (statvfs("/dev/shm", &space) == 0) {
    facts.shared_memory = static_cast<std::int64_t>(space.f_bavail * space.f_frsize);
  }
  facts.open_files = limit_of(RLIMIT_NOFILE);
  facts.file_bytes = limit_of(RLIMIT_FSIZE);
  facts.address_bytes = limit_of(RLIMIT_AS);
  facts.environment = watched_environment();
  return facts;
}

std::string to_json(const RankFacts& facts) {
  nlohmann::json json = nlohmann::json::object();
  json["place"] = nlohmann::json::parse(to_json(facts.place));
  for_each_field(facts, [&](const char* name, const auto& value) { json[name] = value; });
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

RankFacts rank_facts_from_json(const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text);
  RankFacts facts;
  facts.place = rank_provenance_from_json(json.at("place").dump());
  for_each_field(facts, [&](const char* name, auto& value) { json.at(name).get_to(value); });
  return facts;
}

std::string ranks_text(const std::vector<int>& ranks) {
  return (ranks.size() == 1 ? "rank " : "ranks ") + cpu_list(ranks);
}

std::string binding_table(const std::vector<RankProvenance>& ranks) {
  const auto known = [](const std::string& text) { return text.empty() ? "-" : text; };
  Table table(
      {"rank", "host", "pid", "threads", "CPUs", "NUMA", "backend", "GPU", "PCI", "of NUMA"});
  for (const RankProvenance& rank : ranks) {
    table.add({std::to_string(rank.rank), rank.host, std::to_string(rank.pid),
               std::to_string(rank.threads), known(rank.cpus), known(rank.numa), rank.backend,
               known(rank.gpu_name), known(rank.pci_bus_id),
               rank.gpu_numa < 0 ? "-" : std::to_string(rank.gpu_numa)});
  }
  return table.text();
}

}  // namespace chunkstate
