// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/base/hopper.cuh"
#include "kernels/linear/linear_step.hpp"

// How linear_step moves weights. A producer warp streams tiles of 8 KB through a ring in shared
// memory by the copy engine and never looks at an activation, so that it starts while the kernels
// before it still run and keeps the memory busy while the others stage x.
namespace chunkstate::cuda::step {

inline constexpr int tile_rows = 16;
inline constexpr int consumer_warps = 8;
inline constexpr int consumers = consumer_warps * warp_size;
// What becomes of a unit's sums takes 3 to 5 us, about as long as its weights take to arrive:
// several warps, each with 32 sums, keep up with them.
inline constexpr int finishing_warps = 4;
inline constexpr int threads = consumers + (1 + finishing_warps) * warp_size;
inline constexpr int columns_per_warp = 32;
// A tile is four boxes of 16 rows x 128 bytes, swizzled by the copy engine so that fragments are
// read without bank conflicts.
inline constexpr int box_columns = 64;
inline constexpr int boxes = 4;
inline constexpr int box_bytes = tile_rows * box_columns * 2;
inline constexpr int stage_bytes = boxes * box_bytes;
inline constexpr int swizzle_alignment = 1024;

/// Columns of a tile: all four boxes side by side, or two of each of silu_mul's weights.
constexpr int tile_columns(StepSink sink) {
  return (sink == StepSink::silu_mul ? boxes / 2 : boxes) * box_columns;
}
inline constexpr int max_sum_buffers = 4;
inline constexpr int shared_budget = 221 * 1024;
// About 2.5 us pass between the request of a tile and its arrival, so that 90 KB must be on their
// way in each multiprocessor; a ring of twice that also fills while the kernel before ends.
inline constexpr int max_stages = 25;
// While the ring fills for the first time: more tiles on their way would only queue up, and the
// small loads of the kernels that still run would wait behind them.
inline constexpr int first_tiles = 8;
// x of 8 tokens and this many columns fits in shared memory beside the ring.
inline constexpr std::int64_t max_slice_columns = 4096;

/// How the weights are cut: into units of 16 rows by one slice of the columns.
struct Cut {
  int units;    // groups of 16 rows
  int slices;   // of the columns
  int tiles;    // of one slice; the last may have fewer columns, or none
  int columns;  // of one slice
  int stages;
  int parts;        // of a unit's sums: 32 each
  int sum_buffers;  // sums of finished units on their way from the consumers
  int x_pitch;      // bytes of a token's slice in shared memory
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

/// The weights as the copy engine sees them.
struct Maps {
  CUtensorMap map[3];
};

/// Columns from box_columns * box on of the rows from `row` on.
__device__ __forceinline__ void copy_boxes(std::uint32_t shared, const CUtensorMap* map, int box,
                                           int row, std::uint32_t barrier, std::uint64_t policy) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(shared),
      "l"(map), "r"(barrier), "r"(0), "r"(row), "r"(box), "l"(policy)
      : "memory");
#endif
}

/// Which of up to three products a unit belongs to, and which of its units it is.
struct UnitOf {
  int product = 0;
  int unit;
  __device__ UnitOf(const LinearStepArgs& args, int unit_of_all) : unit(unit_of_all) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const auto here = static_cast<int>(ceil_div(args.products[i].weight.extent[0], tile_rows));
      if (product == i && unit >= here && args.products[i + 1].weight.data != nullptr) {
        unit -= here;
        product = i + 1;
      }
    }
  }
};

/// Units are handed out by tickets, because multiprocessors differ by up to 1.4x in the bandwidth
/// they get. A ticket counter is zero again after its last draw. One lane does it all, and nothing
/// waits for a ticket before its unit begins: 250 ns per tile are all there is.
template <StepSink sink>
__device__ void produce(const LinearStepArgs& args, const Maps& maps, const Cut& cut,
                        const Shared& shared) {
#if __CUDA_ARCH__ >= 900
  if (threadIdx.x % warp_size != 0) return;
  std::uint64_t policy;  // weights pass once: they must not push activations out of the L2
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  constexpr int tile_boxes = tile_columns(sink) / box_columns;
  const int slice = static_cast<int>(blockIdx.x) % cut.slices;
  const int group = (static_cast<int>(gridDim.x) - slice + cut.slices - 1) / cut.slices;
  const int first_box = slice * cut.tiles * tile_boxes;
  std::uint32_t* const ticket = args.counters.data + cut.units * cut.parts + slice;
  Position at;
  const auto wait_for_room = [&] { hopper::wait(shared.empty + at.stage * 8, at.parity ^ 1); };
  for (int unit = static_cast<int>(blockIdx.x) / cut.slices; unit < cut.units;) {
    const unsigned drawn = atomicAdd(ticket, 1U);
    const CUtensorMap* map = &maps.map[0];
    int row = unit * tile_rows;
    if constexpr (sink == StepSink::store) {
      const UnitOf of(args, unit);
      map = &maps.map[of.product];
      row = of.unit * tile_rows;
    }
    for (int t = 0; t < cut.tiles; ++t) {
      wait_for_room();
      if (at.parity == 0 && at.stage >= first_tiles) {
        hopper::wait(shared.full + (at.stage - first_tiles) * 8, 0);
      }
      const std::uint32_t full = shared.full + at.stage * 8;
      const std::uint32_t tile = shared.ring + at.stage * stage_bytes;
      shared.unit_of_stage[at.stage] = unit;
      hopper::arrive_expecting(full, stage_bytes);  // columns beyond the last come as zeros
      copy_boxes(tile, map, first_box + t * tile_boxes, row, full, policy);
      if constexpr (sink == StepSink::silu_mul) {
        copy_boxes(tile + stage_bytes / 2, &maps.map[1], first_box + t * tile_boxes, row, full,
                   policy);
      }
      at.advance(cut.stages);
    }
    // Every unit draws once: this was the last draw of the launch.
    if (drawn + 1 == static_cast<unsigned>(cut.units)) atomicExch(ticket, 0U);
    unit = group + static_cast<int>(drawn);
  }
  wait_for_room();
  shared.unit_of_stage[at.stage] = -1;
  hopper::arrive(shared.full + at.stage * 8);
#endif
}

}  // namespace chunkstate::cuda::step
