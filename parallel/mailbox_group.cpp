// SPDX-License-Identifier: Apache-2.0
#include "parallel/mailbox_group.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <thread>

namespace chunkstate {

class MailboxGroup::Member final : public RankGroup {
 public:
  Member(MailboxGroup& group, int rank) : group_(group), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return group_.size(); }
  void flush() override {}
  void all_reduce_sum(std::span<float>) override {
    throw std::logic_error("MailboxGroup: it has no sums");
  }

  void post(std::span<const std::byte> bytes, int to) override {
    Letter letter{bytes.size(), {}};
    if (group_.keep_contents_) letter.contents.assign(bytes.begin(), bytes.end());
    Member& receiver = *group_.members_.at(static_cast<std::size_t>(to));
    group_.boxes_[{rank_, to}].push_back(std::move(letter));
    Traffic& sent = group_.sent_[static_cast<std::size_t>(rank_)];
    ++sent.messages;
    sent.bytes += static_cast<std::int64_t>(bytes.size());
    receiver.wake();
  }

  void receive(std::span<std::byte> bytes, int from) override {
    group_.wait_for_letter({from, rank_}, *turn_, posted_);
    auto& box = group_.boxes_[{from, rank_}];
    const Letter letter = std::move(box.front());
    box.pop_front();
    if (letter.size != bytes.size()) {
      throw std::runtime_error("rank " + std::to_string(rank_) + ": receive from rank " +
                               std::to_string(from) + ": " + std::to_string(letter.size) +
                               " bytes, expected " + std::to_string(bytes.size()));
    }
    if (group_.keep_contents_) {
      std::copy(letter.contents.begin(), letter.contents.end(), bytes.begin());
    } else {
      std::fill(bytes.begin(), bytes.end(), std::byte{0});
    }
  }

  void run(const std::function<void(RankGroup&)>& body) {
    std::unique_lock turn(group_.turn_);
    turn_ = &turn;
    try {
      if (!group_.failed_) body(*this);
    } catch (...) {
      if (!group_.failed_) group_.failed_ = std::current_exception();
    }
    --group_.alive_;
    group_.wake_all();  // who waits for this rank waits in vain
  }

  void wake() { posted_.notify_one(); }

 private:
  MailboxGroup& group_;
  int rank_;
  std::unique_lock<std::mutex>* turn_ = nullptr;
  std::condition_variable posted_;
};

MailboxGroup::MailboxGroup(int ranks, bool keep_contents)
    : keep_contents_(keep_contents), sent_(static_cast<std::size_t>(ranks)) {
  for (int rank = 0; rank < ranks; ++rank) {
    members_.push_back(std::make_unique<Member>(*this, rank));
  }
}

MailboxGroup::~MailboxGroup() = default;

void MailboxGroup::run(const std::function<void(RankGroup&)>& body) {
  alive_ = members_.size();
  failed_ = nullptr;
  std::vector<std::jthread> threads;
  try {
    for (const auto& member : members_) {
      threads.emplace_back([&body, &member] { member->run(body); });
    }
  } catch (...) {  // no more threads to be had: those that run must not wait for the others
    const std::scoped_lock turn(turn_);
    failed_ = std::current_exception();
    wake_all();
  }
  threads.clear();
  if (failed_) std::rethrow_exception(failed_);
}

void MailboxGroup::wake_all() {
  for (const auto& member : members_) member->wake();
}

bool MailboxGroup::has_letter(const Way& way) const {
  const auto box = boxes_.find(way);
  return box != boxes_.end() && !box->second.empty();
}

void MailboxGroup::wait_for_letter(const Way& way, std::unique_lock<std::mutex>& turn,
                                   std::condition_variable& posted) {
  awaited_.insert(way);
  while (!has_letter(way) && !failed_) {
    const bool stuck = awaited_.size() == alive_ &&
                       std::none_of(awaited_.begin(), awaited_.end(),
                                    [&](const Way& other) { return has_letter(other); });
    if (!stuck) {
      posted.wait(turn);
      continue;
    }
    failed_ = std::make_exception_ptr(std::logic_error(
        "rank " + std::to_string(way.second) + ": receive from rank " + std::to_string(way.first) +
        ": nothing was posted, and all other ranks wait or have ended"));
    wake_all();
  }
  awaited_.erase(way);
  if (failed_) throw std::runtime_error("another rank failed");
}

std::int64_t MailboxGroup::pending() const {
  std::int64_t count = 0;
  for (const auto& [ranks, letters] : boxes_) count += static_cast<std::int64_t>(letters.size());
  return count;
}

}  // namespace chunkstate
