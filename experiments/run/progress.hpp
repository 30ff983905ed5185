// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace chunkstate {

/// Progress of a whole job on stderr: a bar that redraws on a terminal, otherwise a line at most
/// every `line_seconds`. Rank 0 shows it; it sees the other ranks' work through the shared claim
/// counter.
class Progress {
 public:
  Progress(std::int64_t total, bool enabled, double line_seconds = 10.0);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `claimed` items of `total` have been begun, by any rank.
  void update(std::int64_t claimed, std::int64_t failed);
  /// Ends the bar's line.
  void finish();

 private:
  std::string bar(std::int64_t claimed, std::int64_t failed, double elapsed) const;

  std::int64_t total_;
  bool enabled_;
  bool terminal_;
  double line_seconds_;
  double start_;
  double last_;
  bool drawn_ = false;
};

}  // namespace chunkstate
