// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "parallel/clock_offset.hpp"
#include "parallel/communicator.hpp"

namespace chunkstate {

/// The timeline of one start of a run, from its construction on, on all ranks.
class RunTrace {
 public:
  /// Collective: measures the clocks' offsets. `device`: also what this rank's GPU does.
  RunTrace(Communicator& world, bool device);
  /// Ends a recording that write() did not end.
  ~RunTrace();
  RunTrace(const RunTrace&) = delete;
  RunTrace& operator=(const RunTrace&) = delete;

  /// Collective: measures the offsets again and writes the spans of all ranks into one file, rank
  /// after rank, so that memory stays that of one. What cannot be written is said on stderr of rank
  /// 0 and changes nothing else: the results are safe.
  void write(const std::filesystem::path& file, const std::string& experiment,
             const std::string& run_id);

 private:
  Communicator& world_;
  ClockOffset before_;
};

/// "trace.json", or of an array's task "trace.shard-I-of-N.json".
std::string trace_file_name(int shard, int shards);

}  // namespace chunkstate
