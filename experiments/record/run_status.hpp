// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "experiments/record/journal.hpp"

namespace chunkstate {

/// One process' journal, live or ended.
struct ProcessStatus {
  std::string run_id;
  std::string host;
  std::int64_t pid = -1;
  std::int64_t rank = -1;
  std::string state;  // "running" | "ended" | "died"
  std::int64_t done = 0;
  std::int64_t failed = 0;
  std::int64_t items = 0;   // running only: under way
  std::string item;         // of these, the one begun first; empty between items
  double item_seconds = 0;  // for how long
  double elapsed = 0;       // seconds from its start to now (running) or to its last line
  double items_per_second = 0;
};

/// Items that failed with the same error.
struct Failures {
  std::string error;
  std::int64_t items = 0;
};

struct RunStatus {
  std::int64_t items = 0;  // of the experiment; 0 if no journal tells
  std::int64_t done = 0;   // distinct items
  std::int64_t failed = 0;
  std::vector<Failures> failures;  // why, the most frequent error first
  std::int64_t evaluated = 0;      // of those done
  std::int64_t running = 0;
  std::int64_t remaining = 0;  // items without an outcome, running ones included
  std::int64_t live_processes = 0;
  double items_per_second = 0;  // of the live processes together
  double eta_seconds =
      std::numeric_limits<double>::quiet_NaN();  // NaN: nobody works or no rate yet
  std::vector<ProcessStatus> processes;          // by start time
  std::int64_t slowest =
      -1;  // index into processes: the live one with the lowest rate; -1 below two
  std::int64_t bad_lines = 0;
  std::int64_t conflicts = 0;
};

/// "running", "ended" or "died": the process that writes, or wrote, a journal. One of this machine
/// is asked after by pid; one of another machine counts as running while its journal has no end
/// line and was written to within the last ten minutes.
std::string process_state(const JournalFile& file);

/// What the journals of a directory say now; may be called while runs are on, from another process
/// or machine. Throws FileError.
RunStatus read_status(const std::filesystem::path& directory);

}  // namespace chunkstate
