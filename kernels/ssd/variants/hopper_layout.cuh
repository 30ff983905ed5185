// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>

#include "kernels/base/hopper.cuh"
#include "kernels/ssd/ssd.hpp"

// What the roles of the Hopper scan (hopper_scan.cu) share: shapes, shared memory, barriers.
namespace chunkstate::cuda::hopper_scan {

using namespace chunkstate::hopper;

constexpr int head_dim = 64;  // M of wgmma
constexpr int state_dim = 128;
constexpr int block = 64;                // tokens of a step: the fewest that fill wgmma's M and K
constexpr int tile_bytes = block * 128;  // 64 rows of 64 bf16: one swizzled box
constexpr float log2_e = 1.4426950408889634F;

// Rings. X is every head's own and comes from HBM, B and C are the same for all heads of a group
// and come from L2, as does C B^T. Together with the tiles of M and y they fill a Hopper's 227 KB
// of shared memory.
constexpr int token_slots = 6;
constexpr int shared_slots = 4;
constexpr int product_slots = 2;
constexpr int gate_slots = 2;
constexpr int output_slots = 2;

constexpr int warps_per_group = 4;
constexpr int group_threads = warps_per_group * 32;
constexpr int threads = 3 * group_threads;  // helpers, M, the state and its products

// C_i B_j of a step is stored as fragments: 16 bytes per lane for every 16 x 16 block on or below
// the diagonal.
constexpr int fragment_blocks = 10;
constexpr int fragment_bytes = fragment_blocks * 32 * 16;
__host__ __device__ constexpr int fragment_block(int row, int column) {
  return row * (row + 1) / 2 + column;
}

/// How a block walks over its steps, and what the state forgets on the way.
enum class Flow {
  exact,        // nothing
  chunks,       // everything at every chunk border
  chunks_of_4,  // the same for chunks of four steps, leaving out the products that meet a state of
                // zero or whose result nobody reads
  lookback,     // what the chunk before the last `lookback` wrote
  twice,        // every chunk twice: its end state first, then the outputs, which start from that
};

/// The call, as the kernel sees it.
struct Scan {
  SsdArgs args;
  const uint4* products;  // [blocks, groups, fragment_blocks, lanes]
  int cluster;            // blocks that share B and C, heads of one group: 1 or 2
  int tokens;
  int blocks;        // of `block` tokens, the last one ragged
  int steps;         // blocks, rounded up to the loop's period; further ones have delta = 0
  int chunk_blocks;  // per chunk
  int first_block;   // of this call within its chunk
  int first_chunk;   // lookback: modulo the number of slots
  bool has_state;    // lookback: the slots hold states of earlier chunks
};

struct Maps {
  CUtensorMap x, B, C, y;
};

/// lookback keeps a state in the memory of the last slot.
constexpr int shared_slots_of(Flow flow) {
  return flow == Flow::lookback ? shared_slots - 1 : shared_slots;
}
constexpr int most_lookback_slots = 32;

/// The decay factors of a step's tokens in shared memory, as byte offsets; lambda_i is log2 of the
/// decay from the step's start to i. Fragment order puts side by side what one lane reads.
struct Decays {
  static constexpr int lambda = 0;           // [block]
  static constexpr int in = 4 * block;       // [block]  2^lambda_i, see in_offset
  static constexpr int shifted = 8 * block;  // [block]  lambda_j - log2 delta_j, see shifted_offset
  static constexpr int out = 12 * block;    // [block]  bf16 2^(lambda_last - lambda_j) delta_j, see
                                            //          out_offset
  static constexpr int total = 14 * block;  // 2^lambda_last
  static constexpr int bytes = 14 * block + 16;
};
// Where the pair of tokens 2 m and 2 m + 1 lies. A product's fragment of 16 tokens has pairs q and
// q + 4 in the lanes with lane % 4 = q: 16 bytes of `shifted`; all 8 pairs of q are 32 bytes of
// `out` and 64 bytes of `in`.
__device__ __forceinline__ int shifted_offset(int m) {
  return (m & 3) * 64 + (m >> 3) * 16 + ((m >> 2) & 1) * 8;
}
__device__ __forceinline__ int out_offset(int m) { return (m & 3) * 32 + (m >> 2) * 4; }
__device__ __forceinline__ int in_offset(int m) { return (m & 3) * 64 + (m >> 2) * 8; }

/// A block's shared memory.
class Shared {
 public:
  __device__ explicit Shared(std::uint8_t* memory)
      : base_((shared_address(memory) + 1023) & ~1023U) {  // the swizzle repeats every 1024 bytes
    asm volatile("" : "+r"(base_));  // or the compiler forms it again at every use
  }
  static constexpr int bytes() { return 1024 + barrier_offset + barriers * 8; }

  __device__ std::uint32_t x(int slot) const { return base_ + slot * tile_bytes; }
  __device__ std::uint32_t B(int slot) const {
    return base_ + shared_offset + slot * 4 * tile_bytes;
  }
  __device__ std::uint32_t C(int slot) const { return B(slot) + 2 * tile_bytes; }
  /// lookback: 64 fp32 numbers of every thread of the state's warpgroup.
  __device__ std::uint32_t kept_state() const { return B(shared_slots_of(Flow::lookback)); }
  __device__ std::uint32_t gate(int slot) const { return base_ + gate_offset + slot * tile_bytes; }
  __device__ std::uint32_t output(int slot) const {
    return base_ + output_offset + slot * tile_bytes;
  }
  __device__ std::uint32_t products(int slot) const {
    return base_ + products_offset + slot * fragment_bytes;
  }
  __device__ std::uint32_t decays(int slot) const {
    return base_ + decays_offset + slot * Decays::bytes;
  }

  // full: ready to be read; empty: may be overwritten.
  __device__ std::uint32_t token_full(int slot) const { return barrier(slot); }
  __device__ std::uint32_t token_empty(int slot) const { return barrier(token_slots + slot); }
  __device__ std::uint32_t shared_full(int slot) const { return barrier(2 * token_slots + slot); }
  __device__ std::uint32_t shared_empty(int slot) const {
    return barrier(2 * token_slots + shared_slots + slot);
  }
  __device__ std::uint32_t products_full(int slot) const { return barrier(product_barrier + slot); }
  __device__ std::uint32_t products_empty(int slot) const {
    return barrier(product_barrier + product_slots + slot);
  }
  __device__ std::uint32_t gate_full(int slot) const { return barrier(gate_barrier + slot); }
  __device__ std::uint32_t gate_empty(int slot) const {
    return barrier(gate_barrier + gate_slots + slot);
  }
  __device__ std::uint32_t output_full(int slot) const { return barrier(output_barrier + slot); }
  __device__ std::uint32_t output_empty(int slot) const {
    return barrier(output_barrier + output_slots + slot);
  }

 private:
  static constexpr int shared_offset = token_slots * tile_bytes;
  static constexpr int gate_offset = shared_offset + shared_slots * 4 * tile_bytes;
  static constexpr int output_offset = gate_offset + gate_slots * tile_bytes;
  static constexpr int products_offset = output_offset + output_slots * tile_bytes;
  static constexpr int decays_offset = products_offset + product_slots * fragment_bytes;
  static constexpr int barrier_offset = decays_offset + token_slots * Decays::bytes;
  static constexpr int product_barrier = 2 * token_slots + 2 * shared_slots;
  static constexpr int gate_barrier = product_barrier + 2 * product_slots;
  static constexpr int output_barrier = gate_barrier + 2 * gate_slots;
  static constexpr int barriers = output_barrier + 2 * output_slots;

  __device__ std::uint32_t barrier(int index) const { return base_ + barrier_offset + 8 * index; }

  std::uint32_t base_;
};

/// A position in a ring: the slot of a step and the parity of its barriers' phase.
template <int slots>
struct Cursor {
  int slot = 0;
  std::uint32_t parity = 0;

  __device__ __forceinline__ void advance(int count = 1) {
    slot += count;
    if (slot >= slots) slot -= slots, parity ^= 1;
  }
};

/// A whole warp arrives. Lane by lane, because compute-sanitizer's racecheck does not see that
/// __syncwarp and one lane's arrival order what the other lanes did (a reproducer with
/// cuda::barrier and nothing else shows the same).
constexpr int warp_arrivals = warp_size;
__device__ __forceinline__ void arrive_with_warp(std::uint32_t barrier) { arrive(barrier); }

/// The steps in the order in which a block visits them.
template <Flow flow>
class Walk {
 public:
  __device__ __forceinline__ explicit Walk(const Scan& scan)
      : last_(scan.steps), length_(scan.chunk_blocks), end_(min(length_, last_)) {}

  int step = 0;
  bool outputs = flow != Flow::twice;  // the visit makes y; else only the chunk's end state

  __device__ __forceinline__ bool done() const { return step >= last_; }
  __device__ __forceinline__ void advance() {
    ++step;
    if constexpr (flow == Flow::twice) {
      if (step < end_) return;
      if (outputs) {
        begin_ = step;
        end_ = min(step + length_, last_);
      } else {
        step = begin_;
      }
      outputs = !outputs;
    }
  }

 private:
  int last_, length_, begin_ = 0, end_;
};

}  // namespace chunkstate::cuda::hopper_scan
