// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

/// Memory through which devices hand each other what they add up: a block of each, which all of
/// them can write. Zeros before the first call; from then on all peers make the same calls, with
/// the same shapes, in the same order, each on one stream at a time.
struct PeerBlocks {
  static constexpr int most = 8;
  std::array<std::byte*, most>
      block{};  // of each peer, as this device addresses it; 16-byte aligned
  int peers = 0;
  int own = 0;                           // which of them is this device's
  std::int64_t bytes = 0;                // of each block; at most 2^31
  const std::uint32_t* ended = nullptr;  // host memory that the device reads: once it is not zero
                                         // no call waits any more, and results mean nothing

  explicit operator bool() const { return peers > 0; }
};

struct PeerSumArgs {
  PeerBlocks peers;
  View<const float, 2> part;  // [rows, columns]  this peer's
  AnyView<2> y;               // [rows, columns]  may be part's memory
  bool accumulate = false;    // y += sum; else y = sum
  View<float, 2> squares;     // [rows, peer_sum_parts(columns)]  out: sums of y^2 as stored; not
                              // given: none
  // Parts that were each divided by the root of a mean of their own, where all peers' mean was
  // meant. Part p is multiplied by sqrt((s_p / channels_p + epsilon) / (s / all_channels +
  // epsilon))
  View<const float, 2> norm_squares;  // [rows, n]  its sum is s_p; s is that of all peers. Not
                                      // given: parts are added as they are
  std::int64_t channels = 0;  // this peer's
  std::int64_t all_channels = 0;
  float epsilon = 0.0F;
};

/// Sums over columns of each row, for linear_step's norm.
constexpr std::int64_t peer_sum_parts(std::int64_t columns) { return (columns + 63) / 64; }

/// Whether the blocks have room for it; false without blocks.
bool peer_sum_fits(const PeerBlocks& peers, std::int64_t rows, std::int64_t columns);

/// y (+)= the sum of all peers' parts, in fp32 and in their order, so that every peer has the same
/// bits; y is rounded once. Nothing is launched for no elements. Backend::cuda only. Throws
/// ShapeError, BackendError. Asynchronous; may be recorded.
void peer_sum(const Executor& exec, const PeerSumArgs& args);

struct PeerGatherArgs {
  PeerBlocks peers;
  View<float, 2> y;  // [rows, columns]  in: this peer's columns; out: all
  std::array<std::int64_t, PeerBlocks::most + 1> first{};  // [first[p], first[p + 1]) are peer p's,
                                                           // at least one; together all columns
};

bool peer_gather_fits(const PeerGatherArgs& args);

/// Every peer's columns on every peer. As peer_sum.
void peer_gather(const Executor& exec, const PeerGatherArgs& args);

namespace cuda {
void peer_sum(const PeerSumArgs& args, CUstream_st* stream);
void peer_gather(const PeerGatherArgs& args, CUstream_st* stream);
}  // namespace cuda

namespace peer {
// A block: the number of the last call, how many of a call's thread blocks have ended, and from
// header_bytes on, for calls of even and of odd number, as many lines from each peer.
inline constexpr std::int64_t header_bytes = 256;
inline constexpr std::int64_t line_bytes = 16;  // two floats, each beside its call's number
inline constexpr std::int64_t unit_columns = 64;
inline constexpr std::int64_t unit_lines = unit_columns / 2 + 1;  // the last: the row's squares

/// Lines that a peer may send in one call.
constexpr std::int64_t lines_of(const PeerBlocks& peers) {
  return peers.peers > 0 ? (peers.bytes - header_bytes) / (2 * peers.peers * line_bytes) : 0;
}
}  // namespace peer

}  // namespace chunkstate
