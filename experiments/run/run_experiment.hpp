// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "experiments/plan/shard.hpp"
#include "parallel/communicator.hpp"

namespace chunkstate {

struct RunOptions {
  std::string file;                    // the experiment's YAML
  std::vector<std::string> overrides;  // "key.path=value"
  std::string out;                     // directory; empty: output.dir of the experiment
  Shard shard;                         // run this part of the items only; no results.h5 then
  bool retry_failed = false;           // run again what failed before
  std::string retry_failed_before;     // only what processes that started before this UTC failed
  std::string ending;                  // rank 0 writes the exit code into this file at the end
  bool quiet = false;                  // no rank table, progress and summary
  std::string probe;                   // run this item only and record nothing: item_probe.hpp
  std::vector<std::string> argv;       // for provenance
};

/// Runs what is not done yet of an experiment, on all ranks of `world`, and writes DIR/results.h5
/// when every item has an outcome; of a shard the items are run and no file is written. Exit code
/// 75 while items (of the shard) are left. Collective; returns the same exit code on every rank.
/// Throws AgreedError, on every rank alike, for what goes wrong before the first item or at the
/// end.
int run_experiment(Communicator& world, const RunOptions& options);

}  // namespace chunkstate
