// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "parallel/rank_group.hpp"

namespace chunkstate {

/// A group of any size in one thread, for what only flows from lower to higher ranks: run rank 0 to
/// its end, then rank 1, and so on. Counts messages and bytes sent.
class MailboxGroup {
 public:
  struct Traffic {
    std::int64_t messages = 0;
    std::int64_t bytes = 0;
  };

  /// `keep_contents` false: receivers get zeros, and the mailboxes need no memory.
  explicit MailboxGroup(int ranks, bool keep_contents = true);

  /// One rank's end. Its receive() throws std::logic_error if nothing is there for it.
  RankGroup& rank(int rank) { return *members_.at(static_cast<std::size_t>(rank)); }
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

  bool keep_contents_;
  std::vector<std::unique_ptr<RankGroup>> members_;
  std::map<std::pair<int, int>, std::deque<Letter>> boxes_;  // by sender and receiver
  std::vector<Traffic> sent_;
};

}  // namespace chunkstate
