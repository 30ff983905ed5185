// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "experiments/spec/experiment_spec.hpp"

namespace chunkstate {

/// What the batch scripts of an array and of its merge job are made from. All paths are absolute.
struct JobRequest {
  std::string name;               // of the experiment
  std::string binary;             // this program
  std::string experiment;         // the YAML file that the tasks read
  std::string directory;          // results
  std::string working_directory;  // where the experiment's relative paths start
  std::vector<std::string> overrides;
  SlurmSettings slurm;
  ParallelSettings parallel;
  std::vector<int> shards;          // array indices to submit, of 0 .. slurm.array - 1
  std::string retry_failed_before;  // UTC; empty: what failed stays so
};

struct JobScripts {
  std::string array;
  std::string merge;
};

/// slurm/array.sbatch and slurm/merge.sbatch, filled in. Every text of the user's stands in quotes.
/// Throws UsageError for settings that contradict each other, and for paths that a batch script
/// cannot hold: control characters, or `%` and `\` where Slurm would replace them.
JobScripts make_job_scripts(const JobRequest& request);

/// One word of a shell command. Throws UsageError if `text` has control characters.
std::string shell_quoted(const std::string& text);

/// "30m" -> 1800.
std::int64_t seconds_of(const std::string& duration);

}  // namespace chunkstate
