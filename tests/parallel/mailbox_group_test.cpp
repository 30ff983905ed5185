// SPDX-License-Identifier: Apache-2.0
#include "parallel/mailbox_group.hpp"

#include <array>
#include <stdexcept>

#include "tests/catch.hpp"

using namespace chunkstate;

namespace {

std::span<const std::byte> bytes_of(const int& value) { return std::as_bytes(std::span(&value, 1)); }

int receive_int(RankGroup& rank, int from) {
  int value = 0;
  rank.receive(std::as_writable_bytes(std::span(&value, 1)), from);
  return value;
}

}  // namespace

TEST_CASE("ranks of a mailbox group wait for each other in both directions") {
  constexpr int ranks = 300;
  MailboxGroup group(ranks);
  std::array<int, ranks> found{};
  group.run([&](RankGroup& rank) {
    const int r = rank.rank();
    const int left = (r + ranks - 1) % ranks;
    const int right = (r + 1) % ranks;
    const int first = 10 * r;
    rank.post(bytes_of(first), right);
    const int second = first + 1;
    rank.post(bytes_of(second), right);
    rank.post(bytes_of(first), left);
    const int a = receive_int(rank, left);  // in the order posted
    const int b = receive_int(rank, left);
    CHECK(b == a + 1);
    found[static_cast<std::size_t>(r)] = a + receive_int(rank, right);
  });
  for (int r = 0; r < ranks; ++r) {
    CHECK(found[static_cast<std::size_t>(r)] ==
          10 * ((r + ranks - 1) % ranks) + 10 * ((r + 1) % ranks));
    CHECK(group.sent_by(r).messages == 3);
    CHECK(group.sent_by(r).bytes == 12);
  }
  CHECK(group.pending() == 0);
}

TEST_CASE("a message that nobody posts, one of another length and a rank's error end the group") {
  MailboxGroup waits(3);
  CHECK_THROWS_AS(waits.run([](RankGroup& rank) {
    if (rank.rank() > 0) receive_int(rank, 3 - rank.rank());
  }),
                  std::logic_error);
  MailboxGroup length(2);
  CHECK_THROWS_WITH(length.run([](RankGroup& rank) {
    const std::array<std::byte, 2> two{};
    if (rank.rank() == 0) return rank.post(two, 1);
    receive_int(rank, 0);
  }),
                    "rank 1: receive from rank 0: 2 bytes, expected 4");
  MailboxGroup fails(4);
  CHECK_THROWS_WITH(fails.run([](RankGroup& rank) {
    if (rank.rank() == 2) throw std::runtime_error("a rank's own");
    receive_int(rank, 2);
  }),
                    "a rank's own");
  // The next run begins anew.
  int count = 0;
  fails.run([&](RankGroup&) { ++count; });
  CHECK(count == 4);
}
