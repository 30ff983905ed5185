// SPDX-License-Identifier: Apache-2.0
#include "core/arena.hpp"

#include <stdexcept>

namespace chunkstate {

void Arena::reserve(std::size_t bytes) {
  used_ = 0;
  if (block_ && bytes <= block_.bytes()) return;
  block_ = Tensor();  // first free, then allocate: the peak is the larger of the two, not their sum
  block_ = Tensor(backend_, DType::fp32, {static_cast<std::int64_t>((bytes + 3) / 4)});
}

std::byte* Arena::take_bytes(std::size_t bytes) {
  if (used_ + bytes > block_.bytes()) {
    throw std::logic_error("arena: " + std::to_string(used_ + bytes) + " bytes wanted, " +
                           std::to_string(block_.bytes()) + " reserved");
  }
  std::byte* result = block_.data() + used_;
  used_ += bytes;
  return result;
}

}  // namespace chunkstate
