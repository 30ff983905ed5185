// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/communicator.hpp"

namespace chunkstate {

/// A block of every rank's GPU memory, which the ranks of one host map into each other's address
/// space (CUDA's handles for other processes), and a word that says when to wait no more.
class PeerMapping {
 public:
  /// Collective, each rank with its current device. Where ranks are on several hosts, are more than
  /// PeerMemory::most, or one of them cannot reach another's memory, or NCCL_P2P_DISABLE is 1, no
  /// rank has a mapping, and one that found an error says it on stderr. Waits have the deadline of
  /// `hosts`, which must outlive it.
  PeerMapping(Communicator& hosts, std::size_t bytes);
  /// Collective, unless `together` is false: then what spins on the device ends, and results mean
  /// nothing.
  void close(bool together);
  ~PeerMapping();
  PeerMapping(const PeerMapping&) = delete;
  PeerMapping& operator=(const PeerMapping&) = delete;

  /// nullptr: none.
  const PeerMemory* memory() const { return memory_ ? &*memory_ : nullptr; }

 private:
  bool succeeds(int cuda_error, const char* what);
  std::string make_own(std::size_t bytes);
  bool open_others(const std::vector<std::string>& handles);
  bool reaches_all();
  bool all_agree(bool mine);
  void unmap();
  void release();

  Communicator& hosts_;
  std::vector<std::byte*> blocks_;  // by rank; nullptr: not mapped
  std::atomic<std::uint32_t>* ended_ = nullptr;
  std::optional<PeerMemory> memory_;
  std::string problem_;  // the first
};

}  // namespace chunkstate
