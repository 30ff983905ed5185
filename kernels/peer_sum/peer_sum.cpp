// SPDX-License-Identifier: Apache-2.0
#include "kernels/peer_sum/peer_sum.hpp"

#include <algorithm>
#include <string>

#include "kernels/base/check.hpp"
#include "kernels/base/launches.hpp"

namespace chunkstate {
namespace {

void check_peers(const char* op, const PeerBlocks& peers) {
  bool fits = peers.peers >= 1 && peers.peers <= PeerBlocks::most && peers.own >= 0 &&
              peers.own < peers.peers && peers.bytes > peer::header_bytes &&
              peers.bytes <= std::int64_t{1} << 31;
  for (int p = 0; p < peers.peers && fits; ++p) {
    fits = reinterpret_cast<std::uintptr_t>(peers.block[static_cast<std::size_t>(p)]) %
                   peer::line_bytes ==
               0 &&
           peers.block[static_cast<std::size_t>(p)] != nullptr;
  }
  if (!fits) {
    throw ShapeError(std::string(op) + ": " + std::to_string(peers.peers) + " peers, own " +
                     std::to_string(peers.own) + ", blocks of " + std::to_string(peers.bytes) +
                     " bytes");
  }
}

[[noreturn]] void throw_no_room(const char* op, std::int64_t rows, std::int64_t columns) {
  throw ShapeError(std::string(op) + ": no room in the peers' blocks for " + std::to_string(rows) +
                   " x " + std::to_string(columns) + " values");
}

}  // namespace

bool peer_sum_fits(const PeerBlocks& peers, std::int64_t rows, std::int64_t columns) {
  return rows * peer_sum_parts(columns) <= peer::lines_of(peers) / peer::unit_lines &&
         peers.peers > 0;
}

bool peer_gather_fits(const PeerGatherArgs& args) {
  std::int64_t most = 0;
  for (int p = 0; p < args.peers.peers; ++p) {
    const auto i = static_cast<std::size_t>(p);
    most = std::max(most, args.first[i + 1] - args.first[i]);
  }
  return args.peers.peers > 0 && args.y.extent[0] * ((most + 1) / 2) <= peer::lines_of(args.peers);
}

void peer_sum(const Executor& exec, const PeerSumArgs& args) {
  constexpr const char* op = "peer_sum";
  const auto [rows, columns] = args.part.extent;
  check_shape(op, "part", args.part, {rows, columns}, "rows x columns");
  check_shape(op, "y", args.y, {rows, columns}, "rows x columns");
  if (args.squares) {
    check_shape(op, "squares", args.squares, {rows, peer_sum_parts(columns)},
                "rows x peer_sum_parts");
  }
  if (args.norm_squares) {
    check_shape(op, "norm_squares", args.norm_squares, {rows, args.norm_squares.extent[1]},
                "rows x n");
    if (args.channels < 1 || args.all_channels < args.channels) {
      throw ShapeError("peer_sum: channels " + std::to_string(args.channels) + " of " +
                       std::to_string(args.all_channels));
    }
  }
  check_peers(op, args.peers);
  if (!peer_sum_fits(args.peers, rows, columns)) throw_no_room(op, rows, columns);
  if (exec.backend != Backend::cuda) throw BackendError(op, exec.backend);
  if (rows * columns == 0) return;
  count_launches();
  if constexpr (CHUNKSTATE_HAS_CUDA) cuda::peer_sum(args, exec.stream);
}

void peer_gather(const Executor& exec, const PeerGatherArgs& args) {
  constexpr const char* op = "peer_gather";
  const auto [rows, columns] = args.y.extent;
  check_shape(op, "y", args.y, {rows, columns}, "rows x columns");
  check_peers(op, args.peers);
  for (int p = 0; p < args.peers.peers; ++p) {
    const auto i = static_cast<std::size_t>(p);
    if (args.first[0] != 0 || args.first[i + 1] <= args.first[i] ||
        args.first[static_cast<std::size_t>(args.peers.peers)] != columns) {
      throw ShapeError("peer_gather: columns of peer " + std::to_string(p) + " are " +
                       std::to_string(args.first[i]) + " to " + std::to_string(args.first[i + 1]) +
                       " of " + std::to_string(columns));
    }
  }
  if (!peer_gather_fits(args)) throw_no_room(op, rows, columns);
  if (exec.backend != Backend::cuda) throw BackendError(op, exec.backend);
  if (rows == 0) return;
  count_launches();
  if constexpr (CHUNKSTATE_HAS_CUDA) cuda::peer_gather(args, exec.stream);
}

}  // namespace chunkstate
