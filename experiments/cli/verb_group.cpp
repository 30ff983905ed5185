// SPDX-License-Identifier: Apache-2.0
#include "experiments/cli/verb_group.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "parallel/device_group.hpp"

namespace chunkstate {

VerbGroup::VerbGroup(Communicator& world, const ModelFlags& flags)
    : is_tensor_(flags.split == "tensor") {
  if (!is_tensor_ && flags.split != "sequence") {
    throw UsageError("--split: found '" + flags.split + "', expected sequence or tensor");
  }
  if (world.size() == 1) return;
  world_ = &world;
  world.watch({.exit_code = exit_rank_missing});
  if (flags.backend == "auto" || flags.backend == "cuda") take_gpu(world.local_rank());
  if (backend_from_name(flags.backend) != Backend::cuda) return;
  devices_ = make_device_group(world, is_tensor_ ? DeviceTraffic::sums : DeviceTraffic::messages);
}

double VerbGroup::slowest(double seconds) const {
  if (world_ == nullptr) return seconds;
  for (const std::string& other : world_->all_gather(fmt::format("{:.9f}", seconds))) {
    seconds = std::max(seconds, std::stod(other));
  }
  return seconds;
}

std::vector<float> VerbGroup::joined(std::vector<float> mine) const {
  if (world_ == nullptr) return mine;
  const auto sizes = world_->all_gather(std::to_string(mine.size()));
  for (int from = 1; from < world_->size(); ++from) {
    const auto count = static_cast<std::size_t>(std::stoull(sizes[static_cast<std::size_t>(from)]));
    if (count == 0) continue;
    if (world_->rank() == from) {
      world_->post(std::as_bytes(std::span(mine)), 0);
      world_->flush();
    } else if (world_->rank() == 0) {
      const std::size_t begin = mine.size();
      mine.resize(begin + count);
      world_->receive(std::as_writable_bytes(std::span(mine).subspan(begin)), from);
    }
  }
  return mine;
}

int end_group(Communicator& world) {
  if (world.size() == 1) throw;
  const int code = report_failure(world.rank());
  world.abort(code);
  return code;
}

int run_in_group(const ModelFlags& flags, const std::function<int(VerbGroup&)>& body) {
  if (flags.split.empty()) {
    VerbGroup alone;
    return body(alone);
  }
  const auto world = make_world();
  try {
    VerbGroup group(*world, flags);
    return body(group);
  } catch (...) {
    return end_group(*world);
  }
}

}  // namespace chunkstate
