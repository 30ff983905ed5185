// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace chunkstate {

/// Progress of a whole job on stderr: a bar that redraws on a terminal, otherwise a line at most
/// every ten seconds. Rank 0 shows it; it sees the other ranks' work through the shared claim
/// counter.
class Progress {
 public:
  /// `things`: what is counted, in the plural.
  Progress(std::int64_t total, bool enabled, const char* things = "items");
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `claimed` things of `total` have been begun, by any rank.
  void update(std::int64_t claimed, std::int64_t failed);
  /// Ends the bar's line.
  void finish();

 private:
  std::string bar(std::int64_t claimed, std::int64_t failed, double elapsed) const;

  std::int64_t total_;
  bool enabled_;
  bool terminal_;
  const char* things_;
  double start_;
  double last_;
  bool drawn_ = false;
};

}  // namespace chunkstate
