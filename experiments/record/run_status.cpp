// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/run_status.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <utility>

namespace chunkstate {
namespace {

constexpr std::chrono::minutes silence_of_a_live_process{10};

double seconds_since_last_write(const std::filesystem::path& path) {
  std::error_code failed;
  const auto written = std::filesystem::last_write_time(path, failed);
  if (failed) return 0;
  const auto age = std::filesystem::file_time_type::clock::now() - written;
  return std::max(0.0, std::chrono::duration<double>(age).count());
}

ProcessStatus status_of(const JournalFile& file) {
  const double silent = seconds_since_last_write(file.path);
  ProcessStatus process;
  process.run_id = file.start.run_id;
  process.host = file.start.process.host;
  process.pid = file.start.process.pid;
  process.rank = file.start.provenance.rank;
  process.state = process_state(file);
  process.done = file.done;
  process.failed = file.failed;
  process.elapsed = file.last_seconds + (process.state == "running" ? silent : 0.0);
  const auto finished = static_cast<double>(file.done + file.failed);
  // Up to the last line: an item under way must not lower the rate of those finished.
  if (finished > 0 && file.last_seconds > 0)
    process.items_per_second = finished / file.last_seconds;
  if (process.state == "running" && !file.open_claims.empty()) {
    const auto& [item, claimed] = *std::ranges::min_element(
        file.open_claims, {}, [](const auto& claim) { return claim.second; });
    process.item = item;
    process.items = static_cast<std::int64_t>(file.open_claims.size());
    process.item_seconds = process.elapsed - claimed;
  }
  return process;
}

std::vector<Failures> failures_of(const std::vector<RequestRecord>& records) {
  std::map<std::string, std::int64_t> items;
  for (const RequestRecord& record : records) {
    if (record.status == RequestStatus::failed) ++items[record.error];
  }
  std::vector<Failures> failures;
  for (const auto& [error, count] : items) failures.push_back({error, count});
  std::ranges::stable_sort(failures, std::greater{}, &Failures::items);
  return failures;
}

}  // namespace

std::string process_state(const JournalFile& file) {
  if (file.ended) return "ended";
  switch (file.has_start ? liveness(file.start.process) : Liveness::unknown) {
    case Liveness::alive:
      return "running";
    case Liveness::dead:
      return "died";
    case Liveness::unknown:
      break;
  }
  const std::chrono::duration<double> silent(seconds_since_last_write(file.path));
  return silent < silence_of_a_live_process ? "running" : "died";
}

RunStatus read_status(const std::filesystem::path& directory) {
  const JournalContents contents = read_journals(directory);
  RunStatus status;
  for (const RequestRecord& record : contents.records) {
    ++(record.status == RequestStatus::failed ? status.failed : status.done);
    if (record.evaluation) ++status.evaluated;
  }
  status.failures = failures_of(contents.records);
  for (const JournalFile& file : contents.files) {
    status.items = std::max(status.items, file.start.items);
    ProcessStatus process = status_of(file);
    if (process.state == "running") {
      ++status.live_processes;
      status.items_per_second += process.items_per_second;
      status.running += process.items;
      const auto index = static_cast<std::int64_t>(status.processes.size());
      if (status.slowest < 0 ||
          process.items_per_second <
              status.processes[static_cast<std::size_t>(status.slowest)].items_per_second) {
        status.slowest = index;
      }
    }
    status.processes.push_back(std::move(process));
  }
  if (status.live_processes < 2) status.slowest = -1;
  status.remaining = std::max<std::int64_t>(0, status.items - status.done - status.failed);
  if (status.items_per_second > 0) {
    status.eta_seconds = static_cast<double>(status.remaining) / status.items_per_second;
  }
  status.bad_lines = static_cast<std::int64_t>(contents.bad_lines.size());
  status.conflicts = static_cast<std::int64_t>(contents.conflicts.size());
  return status;
}

}  // namespace chunkstate
