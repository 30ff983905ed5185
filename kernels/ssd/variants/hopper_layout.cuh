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

// Rings. X is every head's own and comes from HBM: the copies of 5 further steps, 40 KB, cover its
// latency at full bandwidth. B and C are the same for all heads of a group and come from L2.
constexpr int token_slots = 8;
constexpr int shared_slots = 3;
constexpr int gate_slots = 2;
constexpr int output_slots = 2;
constexpr int prefetch_distance = 8;  // steps by which L2 is ahead

constexpr int helper_warps = 4;   // copies in, copies out, two of decays
constexpr int threads = 3 * 128;  // the helpers, the gate's warpgroup, the products' warpgroup

/// The call, as the kernels see it.
struct Scan {
  SsdArgs args;
  const __nv_bfloat16* products;  // [groups, blocks, block, block]  C_i B_j for j <= i
  int tokens;
  int blocks;        // of `block` tokens, the last one ragged
  int steps;         // blocks, rounded up to the loop's period; further ones have delta = 0
  int chunk_blocks;  // blocks per chunk where the state forgets; 0: never
  int first_block;   // of this call within its chunk
  bool prefetch_dt;  // rows of dt may be prefetched in bulk
};

struct Maps {
  CUtensorMap x, B, C, y;
};

/// The decay factors of a step's tokens in shared memory; lambda_i is log2 of the decay from the
/// step's start to i. Byte offsets, because these are read with 32-bit shared addresses.
struct Decays {
  static constexpr int lambda = 0;           // [block]
  static constexpr int shifted = 4 * block;  // [block]  lambda_j - log2 delta_j
  static constexpr int in = 8 * block;       // [block]  2^lambda_i, in fragment order
  static constexpr int out = 12 * block;     // [block]  bf16 2^(lambda_last - lambda_j) delta_j,
                                             //          in fragment order
  static constexpr int total = 14 * block;   // 2^lambda_last
  static constexpr int bytes = 14 * block + 16;
};
// The token pair m of 32 belongs to lane m % 4 of a group of four in a product's fragments: its 8
// pairs lie side by side.
__device__ __forceinline__ int fragment_pair(int m) { return (m & 3) * 8 + (m >> 2); }

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
  __device__ std::uint32_t gate(int slot) const { return base_ + gate_offset + slot * tile_bytes; }
  __device__ std::uint32_t output(int slot) const {
    return base_ + output_offset + slot * tile_bytes;
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
  static constexpr int decays_offset = output_offset + output_slots * tile_bytes;
  static constexpr int barrier_offset = decays_offset + token_slots * Decays::bytes;
  static constexpr int gate_barrier = 2 * token_slots + 2 * shared_slots;
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

  __device__ __forceinline__ void advance() {
    if (++slot == slots) slot = 0, parity ^= 1;
  }
};

}  // namespace chunkstate::cuda::hopper_scan
