// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/base/hopper.cuh"
#include "kernels/linear/linear_step.hpp"

// How linear_step moves weights. A producer warp streams tiles of 16 rows x 256 columns through a
// ring in shared memory by bulk copy and never looks at an activation, so that it starts while the
// kernels before it still run and keeps the memory busy while the others stage x.
namespace chunkstate::cuda::step {

inline constexpr int tile_rows = 16;
inline constexpr int tile_columns = 256;
inline constexpr int consumer_warps = 8;
inline constexpr int consumers = consumer_warps * warp_size;
inline constexpr int threads = consumers + 2 * warp_size;  // and a producer and a finishing warp
inline constexpr int columns_per_warp = tile_columns / consumer_warps;
// 64 bytes more than the columns take: the two rows that a quarter of a warp reads at a time then
// lie in different banks.
inline constexpr int row_pitch = tile_columns * 2 + 64;
inline constexpr int stage_bytes = tile_rows * row_pitch;
inline constexpr int max_stages = 10;
// Sums of finished units on their way from the consumers to the finishing warp.
inline constexpr int sum_buffers = 2;
// Half of a multiprocessor: the next kernel's block fits beside this one and fills its ring.
inline constexpr int shared_budget = 112 * 1024;
// x of up to 8 tokens and this many columns fits in shared memory beside the ring.
inline constexpr std::int64_t max_slice_columns = 4096;

/// How the weights are cut: into units of 16 rows by one slice of the columns.
struct Cut {
  int units;   // groups of 16 rows
  int slices;  // of the columns
  int tiles;   // of one slice; the last may have fewer columns, or none
  int stages;
  int x_pitch;  // bytes of a token's slice in shared memory
};

struct Shared {
  std::uint32_t x, sums, ring, full, empty, sums_full, sums_empty;
  int* unit_of_stage;
  int* unit_of_sums;
  float* scale;  // [8]
};

/// Where a warp stands in the ring.
struct Position {
  int stage = 0;
  std::uint32_t parity = 0;
  __device__ void advance(int stages) {
    if (++stage == stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

__device__ __forceinline__ void copy_row(std::uint32_t shared, const std::byte* source,
                                         std::uint32_t bytes, std::uint32_t barrier,
                                         std::uint64_t policy) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1], %2, [%3], %4;" ::"r"(shared),
      "l"(source), "r"(bytes), "r"(barrier), "l"(policy)
      : "memory");
#endif
}

/// The row of a weight that row `r` of unit `unit` is; rows beyond the last repeat it.
template <StepSink sink>
__device__ __forceinline__ const std::byte* weight_row(const LinearStepArgs& args, int unit,
                                                       int r) {
  if constexpr (sink == StepSink::silu_mul) {  // 8 rows of the first, then the same of the second
    const auto& weight = args.products[r / 8].weight;
    return weight.at(min(std::int64_t{unit} * 8 + r % 8, weight.extent[0] - 1), 0);
  } else {
    int p = 0;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int here = static_cast<int>(ceil_div(args.products[p].weight.extent[0], tile_rows));
      if (p == i && unit >= here && args.products[i + 1].weight.data != nullptr) {
        unit -= here;
        p = i + 1;
      }
    }
    const auto& weight = args.products[p].weight;
    return weight.at(min(std::int64_t{unit} * tile_rows + r, weight.extent[0] - 1), 0);
  }
}

/// Units are handed out by tickets, because multiprocessors differ by up to 1.4x in the bandwidth
/// they get. A ticket counter is zero again after its last draw.
template <StepSink sink>
__device__ void produce(const LinearStepArgs& args, const Cut& cut, const Shared& shared) {
#if __CUDA_ARCH__ >= 900
  std::uint64_t policy;  // weights pass once: they must not push activations out of the L2
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int slice = static_cast<int>(blockIdx.x) % cut.slices;
  const int group = (static_cast<int>(gridDim.x) - slice + cut.slices - 1) / cut.slices;
  const auto in = static_cast<int>(args.x.extent[1]);
  std::uint32_t* const ticket = args.counters.data + cut.units + slice;
  Position at;
  const auto wait_for_room = [&] { hopper::wait(shared.empty + at.stage * 8, at.parity ^ 1); };
  for (int unit = static_cast<int>(blockIdx.x) / cut.slices; unit < cut.units;) {
    unsigned drawn = 0;
    if (lane == 0) {
      drawn = atomicAdd(ticket, 1U);
      // Every unit draws once: this was the last draw of the launch.
      if (drawn + 1 == static_cast<unsigned>(cut.units)) atomicExch(ticket, 0U);
    }
    const std::byte* row = weight_row<sink>(args, unit, lane % tile_rows);
    for (int t = 0; t < cut.tiles; ++t) {
      const int column = (slice * cut.tiles + t) * tile_columns;
      const int columns = max(0, min(in - column, tile_columns));
      wait_for_room();
      const std::uint32_t full = shared.full + at.stage * 8;
      if (lane == 0) {
        shared.unit_of_stage[at.stage] = unit;
        hopper::arrive_expecting(full, static_cast<std::uint32_t>(columns * 2 * tile_rows));
      }
      __syncwarp();
      if (lane < tile_rows && columns > 0) {
        copy_row(shared.ring + at.stage * stage_bytes + lane * row_pitch, row + column * 2,
                 static_cast<std::uint32_t>(columns * 2), full, policy);
      }
      at.advance(cut.stages);
    }
    unit = group + static_cast<int>(__shfl_sync(full_warp, drawn, 0));
  }
  wait_for_room();
  if (lane == 0) {
    shared.unit_of_stage[at.stage] = -1;
    hopper::arrive(shared.full + at.stage * 8);
  }
#endif
}

}  // namespace chunkstate::cuda::step
