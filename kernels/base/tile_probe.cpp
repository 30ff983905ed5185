// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/tile_probe.hpp"

#include "kernels/base/bf16_tiles.hpp"
#include "kernels/base/rows.hpp"

namespace chunkstate {
namespace {

constexpr std::int64_t depth = 256;  // two panels of 16 KiB
constexpr std::int64_t rounds = 4000;

void fill(bf16* panel, std::uint32_t seed) {
  std::uint32_t x = seed * 2654435761U + 1;
  for (std::int64_t i = 0; i < panel_elements(depth); ++i) {
    x = x * 1664525U + 1013904223U;
    panel[i] = from_float<bf16>(static_cast<float>(static_cast<std::int32_t>(x)) * 0x1p-31F);
  }
}

}  // namespace

double probe_tiles(const Executor& exec, bool b_streams) {
#pragma omp parallel num_threads(exec.threads)
  {
    thread_local Scratch scratch;
    float* const memory = scratch.floats(panel_elements(depth) + panel_sums);
    auto* const a = reinterpret_cast<bf16*>(memory);
    auto* const b = a + panel_elements(depth);
    thread_local bool filled = false;
    if (!filled) {
      fill(a, 1);
      fill(b, 2);
      filled = true;
    }
    const TileScope scope;
    for (std::int64_t round = 0; round < rounds; ++round) {
      multiply_panels({.a = a,
                       .b = b,
                       .depth_tiles = depth / tile_depth,
                       .sums = memory + panel_elements(depth),
                       .b_streams = b_streams});
    }
  }
  return 2.0 * panel_sums * depth * rounds * exec.threads;
}

}  // namespace chunkstate
