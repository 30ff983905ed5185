// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>

#include "experiments/doctor/host_facts.hpp"
#include "experiments/doctor/machine_findings.hpp"
#include "experiments/doctor/peer_findings.hpp"
#include "experiments/doctor/slurm_findings.hpp"
#include "experiments/submit/command.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"

using namespace chunkstate;

namespace {

/// Ranks of one host with 64 CPUs on two NUMA nodes and four GPUs, two next to each node; rank i
/// has the i-th quarter of the CPUs and the i-th GPU. Nothing is wrong with it.
std::vector<RankFacts> good_ranks(int count = 4) {
  std::vector<RankFacts> ranks;
  for (int i = 0; i < count; ++i) {
    RankFacts rank;
    rank.place.rank = i;
    rank.place.ranks = count;
    rank.place.local_rank = i;
    rank.place.host = "node7";
    rank.place.cpu_model = "CPU X";
    rank.place.cpus =
        cpu_list(parse_cpu_list(std::to_string(16 * i) + "-" + std::to_string(16 * i + 15)));
    rank.place.numa = i < 2 ? "0" : "1";
    rank.place.threads = 16;
    rank.place.pci_bus_id = "0000:" + std::to_string(i + 1) + "b:00.0";
    rank.place.gpu_numa = i < 2 ? 0 : 1;
    rank.place.gpu_name = "GPU Y";
    rank.gpu_id = "id" + std::to_string(i);
    rank.gpu_cpus = i < 2 ? "0-31" : "32-63";
    for (int gpu = 0; gpu < 4; ++gpu) {
      rank.visible_gpus.push_back("0000:" + std::to_string(gpu + 1) + "b:00.0");
    }
    rank.driver_gpus = 4;
    rank.driver = 13000;
    rank.runtime = 13000;
    rank.nccl = "NCCL 2.28.9";
    rank.group_cpus = "0-63";
    rank.physical_cores = 16;
    rank.launched = count;
    rank.mpi = "Open MPI v4.1.4";
    rank.build = "abc";
    rank.shared_memory = std::int64_t{8} << 30;
    rank.open_files = 65536;
    ranks.push_back(rank);
  }
  return ranks;
}

Findings all_findings(const std::vector<RankFacts>& ranks) {
  Findings findings;
  append(findings, launch_findings(ranks));
  append(findings, cpu_findings(ranks));
  append(findings, gpu_findings(ranks));
  append(findings, host_findings(ranks));
  return findings;
}

/// Those that are not well, one a line.
std::string complaints(const Findings& findings) {
  std::string text;
  for (const Finding& finding : findings) {
    if (finding.severity < Severity::warning) continue;
    text += (finding.severity == Severity::problem ? "problem " : "warning ") + finding.check + ": " +
            finding.found + "; expected " + finding.expected + "; do: " + finding.remedy + "\n";
  }
  return text;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a machine on which all is well has no complaint") {
  CHECK(complaints(all_findings(good_ranks())).empty());
  CHECK(complaints(all_findings(good_ranks(1))).empty());
}

TEST_CASE("two ranks on one GPU are a problem that names both and the GPU") {
  auto ranks = good_ranks();
  ranks[3].gpu_id = ranks[1].gpu_id;
  ranks[3].place.pci_bus_id = ranks[1].place.pci_bus_id;
  const std::string text = complaints(gpu_findings(ranks));
  INFO(text);
  CHECK(has(text, "problem gpu: ranks 1,3 on node7 compute on one GPU, 0000:2b:00.0"));
  CHECK(has(text, "let every rank see all GPUs"));
  ranks[3].place.host = "node8";  // of another host it would be another GPU
  CHECK(complaints(gpu_findings(ranks)).empty());
}

TEST_CASE("more ranks than GPUs are told how many there may be") {
  auto ranks = good_ranks();
  for (RankFacts& rank : ranks) {  // as --gpus-per-task under mpirun does it
    rank.visible_gpus = {"0000:1b:00.0"};
    rank.gpu_id = "id0";
    rank.place.pci_bus_id = "0000:1b:00.0";
    rank.place.gpu_numa = -1;
    rank.environment["CUDA_VISIBLE_DEVICES"] = "0";
  }
  const std::string text = complaints(gpu_findings(ranks));
  INFO(text);
  CHECK(has(text, "ranks 0-3 on node7 compute on one GPU"));
  CHECK(has(text, "CUDA_VISIBLE_DEVICES=0"));
  CHECK(has(text, "start 1 rank on this host"));
}

TEST_CASE("a rank on the far NUMA node is told the CPUs next to its GPU") {
  auto ranks = good_ranks();
  ranks[1].place.gpu_numa = 1;
  ranks[1].gpu_cpus = "32-63";
  const std::string text = complaints(gpu_findings(ranks));
  INFO(text);
  CHECK(has(text,
            "warning numa: rank 1 on node7 runs on NUMA node 0 (CPUs 16-31), its GPU "
            "0000:2b:00.0 is on node 1; expected CPUs 32-63"));
  ranks[1].place.numa = "0-1";  // on both nodes: the threads may be near
  CHECK(complaints(gpu_findings(ranks)).empty());
}

TEST_CASE("a GPU that cannot be used says why, and a machine without one is well") {
  auto ranks = good_ranks();
  for (RankFacts& rank : ranks) {
    rank.visible_gpus.clear();
    rank.gpu_id.clear();
    rank.gpu_problem = "cudaErrorInsufficientDriver: too old";
  }
  CHECK(has(complaints(gpu_findings(ranks)),
            "ranks 0-3 on node7 see no GPU of 4 (cudaErrorInsufficientDriver: too old; "
            "CUDA_VISIBLE_DEVICES is not set)"));
  for (RankFacts& rank : ranks) rank.driver_gpus = 0;
  CHECK(complaints(gpu_findings(ranks)).empty());
  for (RankFacts& rank : ranks) rank.runtime = 0;
  CHECK(complaints(gpu_findings(ranks)).empty());
  ranks[0].driver_gpus = 4;
  CHECK(has(complaints(gpu_findings(ranks)), "warning gpu: 4 GPUs on node7, and no CUDA in this"));
}

TEST_CASE("a driver older than the build's CUDA is a problem between major versions only") {
  auto ranks = good_ranks();
  ranks[0].driver = 12080;
  CHECK(has(complaints(gpu_findings(ranks)),
            "problem driver: the driver serves CUDA 12.8, this build has 13.0"));
  ranks[0].driver = 13000;
  ranks[0].runtime = 13020;
  CHECK(complaints(gpu_findings(ranks)).empty());
}

TEST_CASE("threads without a CPU of their own are found in whatever way ranks are bound") {
  auto ranks = good_ranks();
  SECTION("all on all CPUs") {
    for (RankFacts& rank : ranks) {
      rank.place.cpus = "0-63";
      rank.place.threads = 17;
    }
    CHECK(has(complaints(cpu_findings(ranks)),
              "problem cores: ranks 0-3 on node7 have 64 CPUs (0-63) for 4 ranks x 17 threads"));
  }
  SECTION("two bound to one core, as two ranks of mpirun in two jobs") {
    for (int i : {0, 2}) {
      ranks[static_cast<std::size_t>(i)].place.cpus = "5";
      ranks[static_cast<std::size_t>(i)].place.threads = 1;
    }
    CHECK(has(complaints(cpu_findings(ranks)),
              "problem cores: ranks 0,2 on node7 have 1 CPU (5) for 2 ranks x 1 thread"));
  }
  SECTION("one inside another's CPUs") {
    ranks[1].place.cpus = "0-7";
    ranks[1].place.threads = 8;
    CHECK(has(complaints(cpu_findings(ranks)),
              "problem cores: ranks 0-1 on node7 have 16 CPUs (0-15) for 24 threads"));
  }
  SECTION("a container's limit") {
    for (RankFacts& rank : ranks) rank.cpu_limit = 32;
    CHECK(has(complaints(cpu_findings(ranks)),
              "problem cores: the container on node7 gets the time of 32 CPUs for 4 ranks x 16"));
  }
}

TEST_CASE("bindings that leave CPUs idle or pile threads up are named") {
  auto ranks = good_ranks(2);
  for (RankFacts& rank : ranks) {
    rank.gpu_id.clear();
    rank.place.threads = 1;
    rank.place.cpus = std::to_string(rank.place.rank);
  }
  CHECK(has(complaints(cpu_findings(ranks)),
            "warning binding: ranks 0-1 on node7 are bound to 2 of the job's 64 CPUs"));
  for (RankFacts& rank : ranks) {
    rank.place.cpus = "0-63";
    rank.environment["OMP_PROC_BIND"] = "close";
  }
  CHECK(has(complaints(cpu_findings(ranks)),
            "problem binding: OMP_PROC_BIND=close pins the threads of ranks 0-1 on node7"));
}

TEST_CASE("a launcher of another MPI library, or none, is not taken for one job") {
  auto ranks = good_ranks(1);
  ranks[0].launched = 4;
  CHECK(has(complaints(launch_findings(ranks)),
            "problem mpi: Open MPI v4.1.4 took each of the 4 processes that the launcher started "
            "for a job of its own; expected one job of 4 ranks"));
  ranks[0].launched = 0;
  ranks[0].step_tasks = 8;
  CHECK(has(complaints(launch_findings(ranks)), "srun started 8 processes that know nothing"));
}

TEST_CASE("hosts and programs that differ are named with the first that does") {
  auto ranks = good_ranks();
  ranks[2].build = "other";
  ranks[3].place.cpu_model = "CPU Z";
  ranks[3].place.host = "node8";
  const std::string text = complaints(launch_findings(ranks));
  INFO(text);
  CHECK(has(text, "problem alike: rank 2 has the program 'other'; expected 'abc', as rank 0"));
  CHECK(has(text, "warning alike: rank 3 has the processor 'CPU Z'; expected 'CPU X'"));
  CHECK(has(text, "warning mpi: 1 rank on node8, 3 on node7"));
}

TEST_CASE("small limits and settings that were forgotten are named") {
  auto ranks = good_ranks();
  for (RankFacts& rank : ranks) rank.shared_memory = std::int64_t{64} << 20;
  ranks[0].open_files = 32;
  ranks[0].file_bytes = 1 << 20;
  ranks[0].address_bytes = std::int64_t{4} << 30;
  ranks[0].environment = {{"CUDA_LAUNCH_BLOCKING", "1"}, {"NCCL_P2P_DISABLE", "1"}};
  const std::string text = complaints(host_findings(ranks));
  INFO(text);
  CHECK(has(text, "warning shm: 64.0 MiB free in /dev/shm on node7; expected 512 MiB for 4 ranks"));
  CHECK(has(text, "problem limits: 32 open files for rank 0"));
  CHECK(has(text, "problem limits: files of rank 0 end at 1.00 MiB"));
  CHECK(has(text, "warning limits: rank 0 has 4.00 GiB of addresses"));
  CHECK(has(text, "warning environment: CUDA_LAUNCH_BLOCKING=1"));
  CHECK(has(text, "warning environment: NCCL_P2P_DISABLE=1"));
}

TEST_CASE("copies between GPUs that fail, change bytes or go round are told apart") {
  const auto ranks = good_ranks();
  const std::vector<PeerPair> pairs = {
      {"node7", "rank 0", "rank 1", {true, true, 250e9, ""}},
      {"node7", "rank 1", "rank 0", {true, true, 240e9, ""}},
      {"node7", "rank 0", "rank 2", {true, false, 20e9, ""}},
      {"node7", "rank 2", "rank 0", {false, true, 10e9, ""}},
      {"node7", "rank 1", "rank 2", {false, false, 0, "cudaErrorInvalidDevice: no"}},
      {"node7", "rank 2", "rank 1", {false, false, 0, "cudaErrorInvalidDevice: no"}}};
  const Findings findings = peer_findings(pairs, ranks);
  const std::string text = complaints(findings);
  INFO(text);
  CHECK(has(text, "problem peer: rank 0 -> rank 2 of node7: the copy arrived with other bytes"));
  CHECK(has(text, "warning peer: rank 1 -> rank 2 of node7 and 1 more: cudaErrorInvalidDevice"));
  CHECK(has(text, "warning peer: rank 2 -> rank 0 of node7: no direct access"));
  CHECK(findings.back().found ==
        "2 pairs of GPUs read each other's memory, 240 to 250 GB/s; all bytes compared");
  CHECK(peer_table(pairs) ==
        "node7, GB/s to       rank 0  rank 1  rank 2\n"
        "-------------------------------------------\n"
        "rank 0                    -     250   WRONG\n"
        "rank 1                  240       -   fails\n"
        "rank 2          10.0 (host)   fails       -\n");
  auto blind = ranks;
  for (RankFacts& rank : blind) rank.visible_gpus.resize(1);
  CHECK(has(complaints(peer_findings(pairs, blind)), "--gpu-bind=none"));
}

TEST_CASE("what sinfo and srun print is read") {
  const auto partitions = parse_partitions(
      "cpu*|up|12|(null)\ngpu|up|4|gpu:h100:4(S:0-1)\ngpu|up|2|gpu:a100:8\nold|down|1|gpu:2\nx\n");
  REQUIRE(partitions.size() == 3);
  CHECK(partitions[0].is_default);
  CHECK(partitions[0].gpus_per_node == 0);
  CHECK(partitions[1].nodes == 6);
  CHECK(partitions[1].gpus_per_node == 8);
  CHECK_FALSE(partitions[2].is_up);
  CHECK(partitions[2].gpus_per_node == 2);
  CHECK(parse_mpi_plugins("MPI plugin types are...\n\tnone\n\tpmi2\n\tpmix\nspecific pmix plugin "
                          "versions available: pmix_v4\n") ==
        std::vector<std::string>{"none", "pmi2", "pmix", "pmix_v4"});
}

TEST_CASE("Slurm and a site file are compared") {
  SlurmFacts facts;
  facts.sinfo = facts.sbatch = true;
  facts.partitions = parse_partitions("cpu*|up|12|(null)\ngpu|up|4|gpu:4\n");
  facts.mpi_plugins = {"none", "pmi2"};
  facts.mpi = "Open MPI v4.1.4";
  CHECK(has(complaints(slurm_findings(facts)), "srun --mpi= has none, pmi2, not pmix"));
  facts.mpi_plugins.push_back("pmix_v4");
  CHECK(complaints(slurm_findings(facts)).empty());
  facts.site_file = "site.yaml";
  facts.site.emplace();
  facts.site->partition = "gpus";
  CHECK(has(complaints(slurm_findings(facts)),
            "problem site: site.yaml: partition 'gpus'; expected one of cpu, gpu"));
  facts.site->partition = "gpu";
  facts.site->gpus_per_node = 8;
  facts.site->nodes = 5;
  const std::string text = complaints(slurm_findings(facts));
  CHECK(has(text, "gpus_per_node 8; expected at most the 4 of a node of gpu"));
  CHECK(has(text, "nodes 5; expected at most the 4 of gpu"));
  facts.failure = "exit code 1: no";
  CHECK(has(complaints(slurm_findings(facts)), "warning slurm: sinfo: exit code 1: no"));
  facts.job = "12";
  CHECK(has(complaints(slurm_findings(facts)), "problem slurm: sinfo: exit code 1: no"));
  CHECK(complaints(slurm_findings({})).empty());
}

TEST_CASE("limits and places are read from where Linux keeps them") {
  const TemporaryFolder folder;
  const auto write = [&](const std::string& file, const std::string& text) {
    const auto path = folder.path() / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text << "\n";
  };
  CHECK(cpu_limit(folder.path()) == 0);
  CHECK(group_cpus(folder.path()).empty());
  CHECK(physical_cores({0}, folder.path()) == -1);
  CHECK(driver_gpus(folder.path()) == 0);
  CHECK(pci_place("0000:3b:00.0", folder.path()).numa == -1);

  write("proc/self/cgroup", "0::/job/step");
  write("sys/fs/cgroup/job/step/cpu.max", "max 100000");
  write("sys/fs/cgroup/job/cpu.max", "250000 100000");
  write("sys/fs/cgroup/job/step/cpuset.cpus.effective", "0-3,8");
  CHECK(cpu_limit(folder.path()) == 2.5);
  CHECK(group_cpus(folder.path()) == "0-3,8");
  write("proc/self/cgroup", "4:cpu,cpuacct:/host/path\n3:cpuset:/");
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000");
  write("sys/fs/cgroup/cpuset/cpuset.cpus", "4-7");
  CHECK(cpu_limit(folder.path()) == 1.5);
  CHECK(group_cpus(folder.path()) == "4-7");
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1");
  CHECK(cpu_limit(folder.path()) == 0);

  for (int cpu = 0; cpu < 4; ++cpu) {
    write("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list",
          cpu % 2 == 0 ? "0,2" : "1,3");
  }
  CHECK(physical_cores({0, 1, 2, 3}, folder.path()) == 2);
  CHECK(physical_cores({1}, folder.path()) == 1);
  write("sys/bus/pci/devices/0000:3b:00.0/numa_node", "1");
  write("sys/bus/pci/devices/0000:3b:00.0/local_cpulist", "32-63");
  CHECK(pci_place("0000:3b:00.0", folder.path()).numa == 1);
  CHECK(pci_place("0000:3b:00.0", folder.path()).cpus == "32-63");
  write("proc/driver/nvidia/gpus/0000:3b:00.0/information", "x");
  CHECK(driver_gpus(folder.path()) == 1);
}

TEST_CASE("facts of a rank survive JSON") {
  RankFacts rank = good_ranks(1)[0];
  rank.environment["NCCL_DEBUG"] = "a \"b\"\xff";
  const std::string json = to_json(rank);
  const RankFacts back = rank_facts_from_json(json);
  CHECK(to_json(back) == json);
  CHECK(back.visible_gpus == rank.visible_gpus);
  CHECK(back.place.gpu_numa == rank.place.gpu_numa);
}

TEST_CASE("a command's two channels, its end and its patience are reported") {
  const CommandResult both = run_command({"sh", "-c", "echo out; echo err >&2; exit 3"});
  CHECK(both.output == "out\n");
  CHECK(both.errors == "err\n");
  CHECK(both.code == 3);
  CHECK_FALSE(run_command({"no-such-command-here"}).found);
  const CommandResult late = run_command({"sh", "-c", "echo begun; sleep 60 & sleep 60"}, 1);
  CHECK(late.timed_out);
  CHECK(late.output == "begun\n");
  CHECK(run_command({"sh", "-c", "kill -9 $$"}).code == 137);
}
