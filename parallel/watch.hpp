// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "parallel/deadline.hpp"

namespace chunkstate {

/// What a rank tells the others of itself. It lies in memory that the ranks of a host share; of
/// ranks of other hosts a rank keeps a copy, which messages renew.
struct alignas(64) WatchRow {
  std::atomic<std::int64_t> mark{0};   // CLOCK_MONOTONIC in ns of the last sign of life
  std::atomic<std::int64_t> start{0};  // of the process, as look_at_process() says
  std::atomic<std::int64_t> sequence{0};
  std::atomic<std::int32_t> pid{0};
  std::atomic<std::int32_t> color{-1};   // of the rank's part of the job; -1: not split
  std::atomic<std::int32_t> blames{-1};  // the missing rank because of which this one ends
  std::atomic<std::int32_t> peer{-1};    // whom it waits for; -1: all of its level
  std::atomic<Operation> operation{Operation::none};
  std::atomic<std::uint8_t> level{0};  // 0: the job, 1: the rank's part of it
  std::atomic<bool> waiting{false};
  std::atomic<bool> busy{false};
  std::atomic<bool> left{false};  // it needs nobody any more
};

/// One rank's view of all ranks of the job, and the end of its patience.
class Watch {
 public:
  struct Rank {
    WatchRow* row;
    std::string host;
    bool same_host;
  };
  struct Wait {
    Operation operation;
    std::uint8_t level;
    int peer;  // -1: all ranks of the level
    std::int64_t sequence;
    bool spins = false;  // for a device, which uses none of what slower ranks compute with
  };

  /// `ranks` in the job's order, their rows filled in. `exchange` is called at every sign of life
  /// and in every wait: it may bring and take rows of other hosts.
  Watch(const Deadline& deadline, int rank, std::vector<Rank> ranks,
        std::function<void()> exchange);
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  /// Returns when `done` does, or never.
  void wait(const Wait& what, const std::function<bool()>& done);
  void mark();
  void busy(bool is_busy);
  /// This rank needs nobody any more.
  void leave();
  double deadline_seconds() const { return deadline_.seconds; }
  int exit_code() const { return deadline_.exit_code; }

  WatchRow& mine() { return *ranks_[static_cast<std::size_t>(rank_)].row; }
  WatchRow& row(int rank) { return *ranks_[static_cast<std::size_t>(rank)].row; }

  /// For signal handlers.
  void end_if_gone(int signal);

 private:
  struct Culprit {
    int rank;
    const char* why;
    double silence;  // seconds; 0 if that is not why
  };
  struct Search;

  void check(double begin);
  void check_blames();
  void search(int rank, Search& found) const;
  void search_peers(int waiter, Search& found) const;
  bool gone(int rank) const;
  double limit() const;
  [[noreturn]] void expire(std::span<const Culprit> culprits, int found_by);

  const Deadline deadline_;
  const int rank_;
  std::vector<Rank> ranks_;
  std::vector<bool> pid_visible_;  // not so for containers with process numbers of their own
  std::function<void()> exchange_;

  double last_computing_ = 0;  // when this wait last saw a rank that computes

  static constexpr std::size_t remembered = 32;
  struct Past {
    std::array<double, remembered> seconds{};
    std::size_t count = 0;
  };
  std::array<Past, operations> past_;  // per operation
};

double watch_seconds();

}  // namespace chunkstate
