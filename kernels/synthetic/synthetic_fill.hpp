// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

/// Elements that share a key.
inline constexpr std::int64_t synthetic_block = std::int64_t{1} << 15;

constexpr std::uint32_t synthetic_hash(std::uint32_t value) {
  value = (value ^ (value >> 16)) * 0x7FEB352DU;
  value = (value ^ (value >> 15)) * 0x846CA68BU;
  return value ^ (value >> 16);
}

/// Of mean 0 and nearly normal: the sum of four independent bytes less its mean of 510. Standard
/// deviation sqrt((256^2 - 1) / 3). `index` counts within the block.
constexpr std::int32_t synthetic_number(std::uint64_t key, std::uint32_t index) {
  const auto low = static_cast<std::uint32_t>(key);
  const auto high = static_cast<std::uint32_t>(key >> 32) | 1U;
  const std::uint32_t hash = synthetic_hash(index * high + low);
  const std::uint32_t pairs = (hash & 0x00FF00FFU) + ((hash >> 8) & 0x00FF00FFU);
  return static_cast<std::int32_t>((pairs & 0xFFFFU) + (pairs >> 16)) - 510;
}

struct SyntheticFillArgs {
  AnyView<1> target;                  // any number of elements
  View<const std::uint64_t, 1> keys;  // [ceil(elements / synthetic_block)]
  float scale = 1.0F;
};

/// target_i = synthetic_number(key of its block, i) scale: integers and one multiplication, so
/// every processor gives the same bits. Backend::cuda only (core fills host memory). Throws
/// ShapeError, BackendError. Asynchronous.
void synthetic_fill(const Executor& exec, const SyntheticFillArgs& args);

namespace cuda {
void synthetic_fill(const SyntheticFillArgs& args, CUstream_st* stream);
}

}  // namespace chunkstate
