// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "experiments/record/results_file.hpp"

namespace chunkstate {

/// What the ranks of a run spend its time with, from the begin of the run to the last token of the
/// last rank.
enum class RunTime : std::uint8_t { requests, start_up, warm_up, between, idle };
inline constexpr std::size_t run_times = 5;
inline constexpr std::array<const char*, run_times> run_time_names = {"requests", "start_up",
                                                                      "warm_up", "between", "idle"};

/// Times of regions that only a timeline has, seconds per rank; NaN without one.
struct TracedTimes {
  double load = std::numeric_limits<double>::quiet_NaN();           // models
  double journal = std::numeric_limits<double>::quiet_NaN();        // writing and syncing
  double communication = std::numeric_limits<double>::quiet_NaN();  // waiting for a group's ranks
  double results = std::numeric_limits<double>::quiet_NaN();        // results.h5, after the tokens
};

/// One run as scaling sees it.
struct ScalingRun {
  std::string file;
  std::int64_t ranks = 0;
  std::int64_t threads = -1;                     // per rank; -1: not the same everywhere
  std::int64_t lanes = 0;                        // ranks or groups of ranks that work side by side
  double seconds = 0;                            // begin of the run to its last token
  std::array<double, run_times> rank_seconds{};  // of all ranks; their sum is ranks x seconds
  struct Item {
    std::string key;  // point, prompt and repeat
    double seconds = 0;
    double work = 0;  // FLOPs
  };
  std::vector<Item> items;
  TracedTimes traced;
};

/// Takes a complete run apart. `trace`: of the same run, may be missing. Throws UsageError for a
/// run with failed or missing requests, and for one that several starts of processes wrote: their
/// times do not add up to one run's.
ScalingRun scaling_run(const std::string& file, const StoredResults& results,
                       const std::filesystem::path& trace);

/// A row of the table; the first is the base.
struct ScalingRow {
  const ScalingRun* run = nullptr;
  double work = 1;        // times the base's, in FLOPs: 1 in strong scaling
  double speedup = 1;     // of the work per time: work x base's seconds / seconds
  double efficiency = 1;  // speedup x base's ranks / ranks
  double ci_low = std::numeric_limits<double>::quiet_NaN();  // 95 % interval of the efficiency
  double ci_high = std::numeric_limits<double>::quiet_NaN();
  /// What each kind of time took of the efficiency: its growth beyond work x the base's, per rank
  /// and second of this run. They add up to 1 - efficiency.
  std::array<double, run_times> lost{};
};

/// "strong" (equal work), "weak" (work in proportion to the ranks) or "mixed".
std::string scaling_kind(const std::vector<ScalingRow>& rows);

/// Rows by ranks; the fewest are the base. The interval is a percentile bootstrap over items: the
/// same draws in both runs where they have the same items, separate ones else; what a draw adds or
/// takes of the items' time counts evenly on all lanes. `runs` must outlive the rows. Throws
/// UsageError for two runs on the same number of ranks.
std::vector<ScalingRow> scaling_rows(const std::vector<ScalingRun>& runs);

/// Throws OtherExperimentError that says what differs, unless the second run is the first one's
/// experiment but for the number of prompts or repeats.
void check_comparable(const std::string& file, const StoredResults& first,
                      const std::string& other_file, const StoredResults& other);

}  // namespace chunkstate
