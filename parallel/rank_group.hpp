// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

namespace chunkstate {

/// Ranks that pass each other bytes: all that the engine's layers need of a communicator. Spans
/// point to the memory of the implementation's backend. One thread at a time per rank.
class RankGroup {
 public:
  virtual ~RankGroup() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Starts to send and returns at once; `bytes` must not change before flush(). Messages from one
  /// rank to another arrive in the order posted, each to be received with its own length.
  virtual void post(std::span<const std::byte> bytes, int to) = 0;
  /// The next message of `from`. Throws std::runtime_error if its length differs.
  virtual void receive(std::span<std::byte> bytes, int from) = 0;
  /// Returns when everything posted may be overwritten.
  virtual void flush() = 0;

  /// A sign of life from a rank that computes for long without a message (deadline.hpp).
  virtual void beat() {}
};

}  // namespace chunkstate
