// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace chunkstate {

/// What ranks wait in.
enum class Operation : std::uint8_t {
  none,
  barrier,
  all_reduce_sum,
  broadcast,
  all_gather,
  receive,
  flush,
  send,
  connect,
};
inline constexpr int operations = 9;
const char* name_of(Operation operation);

/// What a rank does when others do not come. A wait ends the process, with a message that names the
/// operation, its number and the ranks that are missing, as soon as one of them is gone (its
/// process has ended), or when it has given no sign of life for `seconds` of this wait (it is
/// stopped or stuck). A rank that waits in turn for another is not missing: the other one is.
struct Deadline {
  double seconds = 60;
  bool adaptive = true;  // at least 20 times the median of this rank's waits in the same operation
  int exit_code = 71;
  bool hosts_apart = false;  // for tests: treats every rank as if it ran on a host of its own
};

/// `word` becomes 1 when a wait without hope ends this process, so that a GPU that spins for
/// another rank, which outlives the host's threads, looks at it and ends too. Up to 16 words; more
/// are never set.
void set_when_ended(std::atomic<std::uint32_t>* word);
void forget_when_ended(std::atomic<std::uint32_t>* word);

/// For a handler of `signal`: if a rank of a watched job is gone, this process has been told to end
/// because of it; says so and ends. Otherwise returns. Launchers send SIGTERM within 2 s of a
/// rank's death, and SIGKILL up to a second later. Async-signal-safe.
void end_if_a_rank_is_gone(int signal);

}  // namespace chunkstate
