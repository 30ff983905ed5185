// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

struct CUstream_st;  // cudaStream_t is a pointer to this

namespace chunkstate {

/// A block of memory of every rank's GPU, which all of them can write.
struct PeerMemory {
  static constexpr int most = 8;         // ranks
  std::array<std::byte*, most> block{};  // by rank, as this rank's GPU addresses them; first zeros
  std::size_t bytes = 0;                 // of each
  const std::uint32_t* ended = nullptr;  // for this rank's GPU to read: once it is not zero, a rank
                                         // is missing and nobody must wait for it
};

/// Ranks that pass each other bytes and add up floats: all that the engine's layers need of a
/// communicator. Spans point to the memory of the implementation's backend. One thread at a time
/// per rank. Between GPUs messages and sums are launches: they return before they are done.
class RankGroup {
 public:
  virtual ~RankGroup() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Between GPUs: everything from now on is ordered with the launches of `stream`.
  virtual void use_stream(CUstream_st* /*stream*/) {}

  /// Starts to send and returns at once; `bytes` must not change before flush(). Messages from one
  /// rank to another arrive in the order posted, each to be received with its own length.
  virtual void post(std::span<const std::byte> bytes, int to) = 0;
  /// The next message of `from`. Throws std::runtime_error if its length differs.
  virtual void receive(std::span<std::byte> bytes, int from) = 0;
  /// receive() that, between GPUs, runs beside others and the launches after it until join().
  virtual void receive_beside(std::span<std::byte> bytes, int from) { receive(bytes, from); }
  /// Between GPUs: everything after this begins when all messages before it have come and gone.
  virtual void join() {}
  /// Returns when everything posted may be overwritten and, between GPUs, everything received or
  /// added up is there.
  virtual void flush() = 0;

  /// Sum over ranks in place, the same bits on all of them. All ranks must give the same number of
  /// values. Throws std::logic_error where the implementation has no sums.
  virtual void all_reduce_sum(std::span<float> values) = 0;

  /// Between GPUs of one host: what kernels of the caller's may exchange directly; nullptr:
  /// nothing.
  virtual const PeerMemory* peer_memory() const { return nullptr; }
  /// Such a kernel has been launched on use_stream()'s stream: flush() and the deadline cover it.
  virtual void launched_sum() {}

  /// The same ranks, for what lies in host memory.
  virtual RankGroup& host_group() { return *this; }
  /// Returns when `done` does, which may depend on other ranks' sums: the deadline of receive()
  /// applies.
  virtual void wait(const std::function<bool()>& done) {
    while (!done()) {
    }
  }

  /// A sign of life from a rank that computes for long without a message (deadline.hpp).
  virtual void beat() {}
};

}  // namespace chunkstate
