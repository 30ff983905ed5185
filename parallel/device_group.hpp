// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "parallel/communicator.hpp"

namespace chunkstate {

/// What ranks with a GPU each exchange: connections that are not needed cost memory and time.
enum class DeviceTraffic : std::uint8_t {
  messages,  // post, receive; from a lower rank to a higher one
  sums,      // all_reduce_sum
};

/// The ranks of `hosts` from GPU to GPU, each with its current device, through NCCL. A message is
/// received in the order of use_stream()'s launches and sent beside them, after what was launched
/// before post(). Sums may be recorded into a graph, and there is peer_memory() for the caller's
/// own, where PeerMapping (peer_memory.hpp) finds any. Waits have the deadline of `hosts`, which
/// must outlive the group. Collective; so is the end of it, unless an exception ends it. Throws
/// std::runtime_error with NCCL's words, or if this build has no NCCL.
std::unique_ptr<RankGroup> make_device_group(Communicator& hosts, DeviceTraffic traffic);

/// "NCCL 2.28.3"; empty: not in this build.
std::string nccl_version();

}  // namespace chunkstate
