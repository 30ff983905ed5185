// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
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
  nlohmann::json failures = nlohmann::json::array();
  for (const Failures& f : status.failures) {
    failures.push_back({{"error", f.error}, {"items", f.items}});
  }
  nlohmann::json eta;
  if (status.eta_seconds == status.eta_seconds) eta = status.eta_seconds;
  return {{"items", status.items},
          {"done", status.done},
          {"failed", status.failed},
          {"failures", failures},
          {"evaluated", status.evaluated},
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

/// One row per job if there are several: array tasks, and runs before. Returns how many.
std::size_t print_jobs(const std::vector<ProcessStatus>& processes) {
  std::vector<std::string> ids;  // by start of their first process
  for (const ProcessStatus& p : processes) {
    if (std::find(ids.begin(), ids.end(), p.run_id) == ids.end()) ids.push_back(p.run_id);
  }
  if (ids.size() < 2) return ids.size();
  Table table({"job", "host", "processes", "at work", "died", "done", "failed", "items/s"});
  for (const std::string& id : ids) {
    ProcessStatus sum;
    std::int64_t members = 0, live = 0, died = 0;
    for (const ProcessStatus& p : processes) {
      if (p.run_id != id) continue;
      if (members++ == 0) sum.host = p.host;
      live += p.state == "running" ? 1 : 0;
      died += p.state == "died" ? 1 : 0;
      sum.done += p.done;
      sum.failed += p.failed;
      sum.items_per_second += p.state == "running" ? p.items_per_second : 0;
    }
    table.add({id, sum.host, std::to_string(members), std::to_string(live), std::to_string(died),
               std::to_string(sum.done), std::to_string(sum.failed),
               live > 0 ? format_number(sum.items_per_second) : "-"});
  }
  fmt::print("{}\n", table.text());
  return ids.size();
}

void print_processes(const RunStatus& status, bool live_only) {
  if (live_only && status.live_processes == 0) return;
  Table table({"process", "rank", "state", "done", "failed", "items/s", "in this item"});
  for (std::size_t i = 0; i < status.processes.size(); ++i) {
    const ProcessStatus& p = status.processes[i];
    if (live_only && p.state != "running") continue;
    const bool slowest = static_cast<std::int64_t>(i) == status.slowest;
    table.add({fmt::format("{}:{}{}", p.host, p.pid, slowest ? " (slowest)" : ""),
               std::to_string(p.rank), p.state, std::to_string(p.done), std::to_string(p.failed),
               format_number(p.items_per_second),
               p.item.empty() ? "-" : format_seconds(p.item_seconds)});
  }
  fmt::print("{}", table.text());
}

void print_failures(const std::vector<Failures>& failures) {
  constexpr std::size_t most_shown = 5;
  for (std::size_t i = 0; i < std::min(failures.size(), most_shown); ++i) {
    fmt::print("{} failed: {}\n", failures[i].items, failures[i].error);
  }
  if (failures.size() > most_shown) {
    fmt::print("and {} other errors\n", failures.size() - most_shown);
  }
}

void print(const std::string& directory, const RunStatus& status) {
  fmt::print("{}: {} of {} items done, {} failed, {} running, {} processes at work\n", directory,
             status.done, status.items, status.failed, status.running, status.live_processes);
  print_failures(status.failures);
  if (status.evaluated > 0) fmt::print("{} outputs evaluated\n", status.evaluated);
  if (status.eta_seconds == status.eta_seconds) {
    fmt::print("{} items/s, about {} left\n", format_number(status.items_per_second),
               format_seconds(status.eta_seconds));
  }
  if (status.bad_lines > 0)
    fmt::print("{} damaged journal lines: their items run again\n", status.bad_lines);
  if (status.conflicts > 0) fmt::print("{} items with two different results\n", status.conflicts);
  if (status.remaining > 0 && status.live_processes == 0) {
    fmt::print("nobody is at work; the same command again runs the {} left\n",
               counted(status.remaining, "item"));
  }
  const std::size_t jobs = print_jobs(status.processes);
  print_processes(status, jobs > 1);
}

int status_verb(const StatusFlags& flags) {
  if (!std::filesystem::is_directory(flags.directory)) {
    throw UsageError(flags.directory + (std::filesystem::exists(flags.directory)
                                            ? ": is a file, expected the folder of a run"
                                            : ": no such directory"));
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
  verb->add_flag("--json", flags->json, "print as JSON");
  verb->callback([flags, &action] { action = [flags] { return status_verb(*flags); }; });
}

}  // namespace chunkstate
