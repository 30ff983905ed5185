// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/errors.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/cli/verb.hpp"
#include "experiments/record/run_status.hpp"

namespace chunkstate {
namespace {

struct StatusFlags {
  std::string directory;
  bool json = false;
};

nlohmann::json to_json(const RunStatus& status) {
  nlohmann::json processes = nlohmann::json::array();
  for (const ProcessStatus& p : status.processes) {
    processes.push_back({{"run_id", p.run_id},
                         {"host", p.host},
                         {"pid", p.pid},
                         {"rank", p.rank},
                         {"state", p.state},
                         {"done", p.done},
                         {"failed", p.failed},
                         {"item", p.item},
                         {"item_seconds", p.item_seconds},
                         {"items_per_second", p.items_per_second}});
  }
  nlohmann::json eta;
  if (status.eta_seconds == status.eta_seconds) eta = status.eta_seconds;
  return {{"items", status.items},
          {"done", status.done},
          {"failed", status.failed},
          {"running", status.running},
          {"remaining", status.remaining},
          {"live_processes", status.live_processes},
          {"items_per_second", status.items_per_second},
          {"eta_seconds", eta},
          {"slowest", status.slowest},
          {"bad_lines", status.bad_lines},
          {"conflicts", status.conflicts},
          {"processes", processes}};
}

void print(const std::string& directory, const RunStatus& status) {
  fmt::print("{}: {} of {} items done, {} failed, {} running, {} processes at work\n", directory,
             status.done, status.items, status.failed, status.running, status.live_processes);
  if (status.eta_seconds == status.eta_seconds) {
    fmt::print("{} items/s, about {} left\n", format_number(status.items_per_second),
               format_seconds(status.eta_seconds));
  }
  if (status.bad_lines > 0)
    fmt::print("{} damaged journal lines: their items run again\n", status.bad_lines);
  if (status.conflicts > 0) fmt::print("{} items with two different results\n", status.conflicts);
  Table table({"process", "rank", "state", "done", "failed", "items/s", "in this item"});
  for (std::size_t i = 0; i < status.processes.size(); ++i) {
    const ProcessStatus& p = status.processes[i];
    const bool slowest = static_cast<std::int64_t>(i) == status.slowest;
    table.add({fmt::format("{}:{}{}", p.host, p.pid, slowest ? " (slowest)" : ""),
               std::to_string(p.rank), p.state, std::to_string(p.done), std::to_string(p.failed),
               format_number(p.items_per_second),
               p.item.empty() ? "-" : format_seconds(p.item_seconds)});
  }
  fmt::print("{}", table.text());
}

int status_verb(const StatusFlags& flags) {
  if (!std::filesystem::is_directory(flags.directory)) {
    throw UsageError(flags.directory + ": no such directory");
  }
  const RunStatus status = read_status(flags.directory);
  if (status.processes.empty()) throw UsageError(flags.directory + ": holds no journals of a run");
  if (flags.json) {
    fmt::print("{}\n", to_json(status).dump(2));
  } else {
    print(flags.directory, status);
  }
  return exit_ok;
}

}  // namespace

void add_status(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<StatusFlags>();
  CLI::App* verb = app.add_subcommand(
      "status",
      "Done, failed and running items of a results directory, while a run is on or after it");
  verb->add_option("directory", flags->directory, "results directory")->required();
  verb->add_flag("--json", flags->json);
  verb->callback([flags, &action] { action = [flags] { return status_verb(*flags); }; });
}

}  // namespace chunkstate
