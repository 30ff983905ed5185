// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "core/bench/comm_bench.hpp"
#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/cli/bench.hpp"
#include "experiments/cli/verb_group.hpp"
#include "parallel/communicator.hpp"
#include "parallel/device_group.hpp"

namespace chunkstate {
namespace {

struct CommFlags {
  std::string backend = "auto";
  int repeats = 200;
  bool json = false;
};

void print(const CommFlags& flags, const Communicator& world, Backend backend,
           const std::vector<CommBenchRow>& rows) {
  if (flags.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const CommBenchRow& row : rows) {
      list.push_back({{"what", row.what},
                      {"bytes", row.bytes},
                      {"seconds", row.seconds},
                      {"bus_bytes_per_second", row.bus_bytes}});
    }
    fmt::print("{}\n", nlohmann::json{{"ranks", world.size()}, {"rows", list}}.dump(2));
    return;
  }
  Table table({"what", "bytes", "time", "bus GB/s"});
  for (const CommBenchRow& row : rows) {
    table.add({row.what, std::to_string(row.bytes), format_seconds(row.seconds),
               format_number(row.bus_bytes / 1e9)});
  }
  fmt::print("{} ranks on {} hosts, {}\n{}", world.size(), world.hosts(),
             backend == Backend::cuda ? nccl_version() : "host memory through MPI", table.text());
}

int bench_comm_verb(const CommFlags& flags) {
  const auto world = make_world();
  try {
    if (world->size() < 2 || world->size() > 256) {
      throw UsageError("bench comm: found " + std::to_string(world->size()) +
                       " ranks, expected 2 to 256: start it with mpirun or srun");
    }
    if (flags.repeats < 1) throw UsageError("bench comm: --repeats must be at least 1");
    world->watch({.exit_code = exit_rank_missing});
    if (flags.backend != "cpu") take_gpu(world->local_rank());
    const Backend backend = backend_from_name(flags.backend);
    std::unique_ptr<RankGroup> messages, sums;
    if (backend == Backend::cuda) {
      messages = make_device_group(*world, DeviceTraffic::messages);
      sums = make_device_group(*world, DeviceTraffic::sums);
    }
    const auto rows = bench_communication(messages ? *messages : *world, sums ? *sums : *world,
                                          backend, flags.repeats);
    if (world->rank() == 0) print(flags, *world, backend, rows);
    return exit_ok;
  } catch (...) {
    return end_group(*world);
  }
}

}  // namespace

void add_bench_comm(CLI::App& bench, VerbAction& action) {
  auto flags = std::make_shared<CommFlags>();
  CLI::App* verb = bench.add_subcommand(
      "comm", "Under mpirun or srun: time and bandwidth of what ranks send each other");
  verb->add_option("--backend", flags->backend, "auto, cpu or cuda")->capture_default_str();
  verb->add_option("--repeats", flags->repeats, "timed runs")->capture_default_str();
  verb->add_flag("--json", flags->json, "print as JSON");
  verb->callback([flags, &action] { action = [flags] { return bench_comm_verb(*flags); }; });
}

}  // namespace chunkstate
