// SPDX-License-Identifier: Apache-2.0
#include "parallel/mailbox_group.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace chunkstate {

class MailboxGroup::Member final : public RankGroup {
 public:
  Member(MailboxGroup& group, int rank) : group_(group), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return group_.size(); }
  void flush() override {}
  void all_reduce_sum(std::span<float>) override {
    throw std::logic_error("MailboxGroup: no sums: its ranks run one after the other");
  }

  void post(std::span<const std::byte> bytes, int to) override {
    Letter letter{bytes.size(), {}};
    if (group_.keep_contents_) letter.contents.assign(bytes.begin(), bytes.end());
    group_.members_.at(static_cast<std::size_t>(to));  // throws std::out_of_range
    group_.boxes_[{rank_, to}].push_back(std::move(letter));
    Traffic& sent = group_.sent_[static_cast<std::size_t>(rank_)];
    ++sent.messages;
    sent.bytes += static_cast<std::int64_t>(bytes.size());
  }

  void receive(std::span<std::byte> bytes, int from) override {
    const auto box = group_.boxes_.find({from, rank_});
    const std::string who =
        "rank " + std::to_string(rank_) + ": receive from rank " + std::to_string(from) + ": ";
    if (box == group_.boxes_.end() || box->second.empty()) {
      throw std::logic_error(who + "nothing was posted");
    }
    const Letter letter = std::move(box->second.front());
    box->second.pop_front();
    if (letter.size != bytes.size()) {
      throw std::runtime_error(who + std::to_string(letter.size) + " bytes, expected " +
                               std::to_string(bytes.size()));
    }
    if (group_.keep_contents_) {
      std::copy(letter.contents.begin(), letter.contents.end(), bytes.begin());
    } else {
      std::fill(bytes.begin(), bytes.end(), std::byte{0});
    }
  }

 private:
  MailboxGroup& group_;
  int rank_;
};

MailboxGroup::MailboxGroup(int ranks, bool keep_contents)
    : keep_contents_(keep_contents), sent_(static_cast<std::size_t>(ranks)) {
  for (int rank = 0; rank < ranks; ++rank) {
    members_.push_back(std::make_unique<Member>(*this, rank));
  }
}

std::int64_t MailboxGroup::pending() const {
  std::int64_t count = 0;
  for (const auto& [ranks, letters] : boxes_) count += static_cast<std::int64_t>(letters.size());
  return count;
}

}  // namespace chunkstate
