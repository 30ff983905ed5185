// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "parallel/communicator.hpp"

namespace chunkstate {

struct RunOptions {
  std::string file;                    // the experiment's YAML
  std::vector<std::string> overrides;  // "key.path=value"
  std::string out;                     // directory; empty: output.dir of the experiment
  bool retry_failed = false;           // run again what failed before
  bool quiet = false;                  // no rank table, progress and summary
  std::string probe;                   // run this item only and record nothing: item_probe.hpp
  std::vector<std::string> argv;       // for provenance
};

/// Runs what is not done yet of an experiment, on all ranks of `world`, and writes DIR/results.h5
/// when every item has an outcome. Collective; returns the same exit code on every rank. Throws
/// AgreedError, on every rank alike, for what goes wrong before the first item or at the end.
int run_experiment(Communicator& world, const RunOptions& options);

}  // namespace chunkstate
