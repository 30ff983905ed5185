// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "parallel/rank_group.hpp"

namespace chunkstate {

/// A group of any size in one process, which counts messages and bytes sent. Each rank has a
/// thread, of which one runs at a time, until it waits for a message that is not there: so what
/// ranks do needs no locks, and 1,024 of them fit on one machine.
class MailboxGroup {
 public:
  struct Traffic {
    std::int64_t messages = 0;
    std::int64_t bytes = 0;
  };

  /// `keep_contents` false: receivers get zeros, and the mailboxes need no memory.
  explicit MailboxGroup(int ranks, bool keep_contents = true);
  ~MailboxGroup();

  /// Returns when `body` has returned for every rank. Throws what the first of them throws; ranks
  /// that all wait for messages which nobody posted throw std::logic_error.
  void run(const std::function<void(RankGroup&)>& body);

  int size() const { return static_cast<int>(members_.size()); }
  Traffic sent_by(int rank) const { return sent_.at(static_cast<std::size_t>(rank)); }
  /// Messages that nobody has taken.
  std::int64_t pending() const;

 private:
  class Member;
  struct Letter {
    std::size_t size;
    std::vector<std::byte> contents;
  };

  using Way = std::pair<int, int>;  // sender and receiver

  bool has_letter(const Way& way) const;
  void wait_for_letter(const Way& way, std::unique_lock<std::mutex>& turn,
                       std::condition_variable& posted);
  void wake_all();

  bool keep_contents_;
  std::vector<std::unique_ptr<Member>> members_;
  std::map<Way, std::deque<Letter>> boxes_;
  std::vector<Traffic> sent_;

  std::mutex turn_;        // held by the rank that runs
  std::set<Way> awaited_;  // one per rank that waits
  std::size_t alive_ = 0;  // ranks that have not returned
  std::exception_ptr failed_;
};

}  // namespace chunkstate
