// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace chunkstate {

/// An experiment to be run on several numbers of ranks.
struct ScalingStudy {
  std::string file;                 // the experiment's YAML
  std::vector<std::int64_t> ranks;  // distinct, at least 1
  bool weak = false;                // prompts or repeats in proportion to the ranks
  std::string out;
  std::string launcher = "mpirun --oversubscribe --bind-to none -n {ranks}";
  std::vector<std::string> overrides;
};

/// Runs `LAUNCHER chunkstate run` for each number of ranks into OUT/ranks-N, one after the other,
/// and returns their results files. What is done already is not run again. Unless the experiment
/// says parallel.threads, every rank gets the threads that it has on the most ranks, so that a rank
/// is the same in all runs. On CPUs each run also writes its timeline, unless an override says no.
/// What the runs print goes to stderr. Throws UsageError,
/// std::runtime_error that names the run that failed.
std::vector<std::string> run_scaling_study(const ScalingStudy& study);

/// The words of a launcher's command line, with "{ranks}" replaced. No quotes.
std::vector<std::string> launcher_words(const std::string& launcher, std::int64_t ranks);

}  // namespace chunkstate
