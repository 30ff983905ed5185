// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include <cstdint>

#include "kernels/base/elements.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/base/tensor_core.cuh"

// Hopper's asynchronous machinery: barriers in shared memory, the bulk tensor copy engine (TMA),
// and matrix products of a warpgroup. Shared memory is addressed by 32-bit numbers
// (shared_address).
namespace chunkstate::hopper {

// ---------------------------------------------------------------------------------------- barriers

__device__ __forceinline__ void init_barrier(std::uint32_t barrier, std::uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// Arrives, and adds the bytes that copies will bring to what the phase waits for.
__device__ __forceinline__ void arrive_expecting(std::uint32_t barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

__device__ __forceinline__ void arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// Arrives at the same barrier of another block of the cluster. Without .release.cluster, which
/// compiles to a device-wide memory barrier (1.28x slower than no cluster at all): what the arrival
/// orders are reads that have completed before the copy engine overwrites the tile.
__device__ __forceinline__ void arrive_at_block(std::uint32_t barrier, std::uint32_t block) {
  asm volatile(
      "{ .reg .b32 remote; mapa.shared::cluster.u32 remote, %0, %1;"
      " mbarrier.arrive.shared::cluster.b64 _, [remote]; }" ::"r"(barrier),
      "r"(block)
      : "memory");
}

/// Lanes of a warp may see the phase end at different times. (Not bra.uni: the compiler then drops
/// every __syncwarp behind it, and one lane's arrival frees a tile that others have yet to read.)
__device__ __forceinline__ void wait(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{ .reg .pred done;\n"
      "AGAIN: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra DONE;\n bra AGAIN;\nDONE: }" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

/// Whether the phase is over. Asked early, it hides the latency of asking; wait_unless then spins
/// only if the answer was no.
__device__ __forceinline__ std::uint32_t probe(std::uint32_t barrier, std::uint32_t parity) {
  std::uint32_t over;
  asm volatile(
      "{ .reg .pred done; mbarrier.test_wait.parity.shared::cta.b64 done, [%1], %2;"
      " selp.u32 %0, 1, 0, done; }"
      : "=r"(over)
      : "r"(barrier), "r"(parity)
      : "memory");
  return over;
}
__device__ __forceinline__ void wait_unless(std::uint32_t over, std::uint32_t barrier,
                                            std::uint32_t parity) {
  if (!over) wait(barrier, parity);
}

// -------------------------------------------------------------------------------------- copy
// engine

__device__ __forceinline__ void load_tile(std::uint32_t shared, const CUtensorMap* map,
                                          std::uint32_t barrier, int column, int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4}], [%2];" ::"r"(shared),
      "l"(map), "r"(barrier), "r"(column), "r"(row)
      : "memory");
}

/// To the same place in every block of `blocks` (a bit each), whose barriers count the bytes.
__device__ __forceinline__ void load_tile_to_blocks(std::uint32_t shared, const CUtensorMap* map,
                                                    std::uint32_t barrier, int column, int row,
                                                    std::uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(shared),
      "l"(map), "r"(barrier), "r"(column), "r"(row), "h"(blocks)
      : "memory");
}

/// Contiguous bytes, multiples of 16 at addresses that are too.
__device__ __forceinline__ void load_bytes(std::uint32_t shared, const void* global, int bytes,
                                           std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(shared),
      "l"(global), "r"(bytes), "r"(barrier)
      : "memory");
}

__device__ __forceinline__ void store_tile(const CUtensorMap* map, std::uint32_t shared, int column,
                                           int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map),
      "r"(shared), "r"(column), "r"(row)
      : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

/// Until at most `pending` of this thread's stores still read shared memory.
template <int pending>
__device__ __forceinline__ void wait_store_reads() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(pending) : "memory");
}
__device__ __forceinline__ void wait_stores() {
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

/// Orders ordinary accesses to shared memory before those of the copy engine and of wgmma.
__device__ __forceinline__ void fence_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// ------------------------------------------------------------------------- blocks, warps,
// registers

__device__ __forceinline__ std::uint32_t block_in_cluster() {
  std::uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ void synchronize_cluster() {
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
template <int registers>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}
// ----------------------------------------------------------------------------- fragments and
// numbers

/// Stores four 8 x 8 fragments, transposed; lane l gives the address of row l % 8 of fragment l
/// / 8.
__device__ __forceinline__ void store_fragments_transposed(std::uint32_t address, std::uint32_t a,
                                                           std::uint32_t b, std::uint32_t c,
                                                           std::uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%4], {%0, %1, %2, %3};" ::"r"(a),
               "r"(b), "r"(c), "r"(d), "r"(address)
               : "memory");
}

__device__ __forceinline__ void store_fragments(std::uint32_t address, std::uint32_t a,
                                                std::uint32_t b, std::uint32_t c, std::uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%4], {%0, %1, %2, %3};" ::"r"(a), "r"(b),
               "r"(c), "r"(d), "r"(address)
               : "memory");
}

__device__ __forceinline__ uint4 load_shared_16(std::uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}
__device__ __forceinline__ float4 load_shared_float4(std::uint32_t address) {
  float4 v;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(address)
               : "memory");
  return v;
}
__device__ __forceinline__ float load_shared_float(std::uint32_t address) {
  float v;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(address) : "memory");
  return v;
}
__device__ __forceinline__ void store_shared_float2(std::uint32_t address, float2 v) {
  asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(address), "f"(v.x), "f"(v.y) : "memory");
}
__device__ __forceinline__ void store_shared_4(std::uint32_t address, std::uint32_t v) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(v) : "memory");
}
__device__ __forceinline__ void store_shared_16(std::uint32_t address, uint4 v) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y),
               "r"(v.z), "r"(v.w)
               : "memory");
}

/// 2^x and log2 x on the special-function unit: 2 ulp, subnormals as zero.
__device__ __forceinline__ float fast_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float fast_log2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
  return detail::pack<DType::bf16>(low, high);
}
__device__ __forceinline__ float low_bf16(std::uint32_t pair) {
  return __uint_as_float(pair << 16);
}
__device__ __forceinline__ float high_bf16(std::uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000U);
}
__device__ __forceinline__ std::uint32_t multiply_bf16_pairs(std::uint32_t a, std::uint32_t b) {
  std::uint32_t r;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}

// ------------------------------------------------------------------------------ warpgroup products

__device__ __forceinline__ void fence_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int pending>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

/// Pins registers that a product in flight reads or writes: the compiler may neither move their
/// uses above this point nor reuse them before it.
template <int count>
__device__ __forceinline__ void pin(float (&r)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+f"(r[i])::"memory");
}
template <int count>
__device__ __forceinline__ void pin(std::uint32_t (&r)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+r"(r[i])::"memory");
}

/// Gives registers a value without an instruction: whatever they hold.
template <int count>
__device__ __forceinline__ void define(float (&r)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "=f"(r[i]));
}
template <int count>
__device__ __forceinline__ void define(std::uint32_t (&r)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "=r"(r[i]));
}

/// An operand in shared memory in the 128-byte swizzle, strides in bytes. Contiguous along k: `row`
/// is the step to the next 8 rows, `column` unused. Contiguous along rows: `column` is the step to
/// the next 64 rows, `row` that to the next 8 k.
__device__ __forceinline__ std::uint64_t describe(std::uint32_t address, std::uint32_t column,
                                                  std::uint32_t row) {
  return static_cast<std::uint64_t>((address & 0x3ffffU) >> 4) |
         (static_cast<std::uint64_t>(column >> 4) << 16) |
         (static_cast<std::uint64_t>(row >> 4) << 32) | (std::uint64_t{1} << 62);
}

#define CHUNKSTATE_ACCUMULATORS_8(d, i)                                                       \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])

/// sum [64 x 64] (+)= a [64 x 16] (registers) b [16 x 64] (shared, contiguous along k).
template <bool add>
__device__ __forceinline__ void multiply_64(float (&sum)[32], const std::uint32_t* a,
                                            std::uint64_t b) {
  asm volatile(
      "{ .reg .pred add; setp.ne.b32 add, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"
      "%24,%25,%26,%27,%28,%29,%30,%31}, {%32,%33,%34,%35}, %36, add, 1, 1, 0; }"
      : CHUNKSTATE_ACCUMULATORS_8(sum, 0), CHUNKSTATE_ACCUMULATORS_8(sum, 8),
        CHUNKSTATE_ACCUMULATORS_8(sum, 16), CHUNKSTATE_ACCUMULATORS_8(sum, 24)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(add ? 1 : 0));
}

/// sum [64 x 128] += a [64 x 16] (registers) b [16 x 128] (shared, contiguous along its rows).
__device__ __forceinline__ void multiply_128_by_rows(float (&sum)[64], const std::uint32_t* a,
                                                     std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"
      "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,"
      "%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
      "{%64,%65,%66,%67}, %68, 1, 1, 1, 1;"
      : CHUNKSTATE_ACCUMULATORS_8(sum, 0), CHUNKSTATE_ACCUMULATORS_8(sum, 8),
        CHUNKSTATE_ACCUMULATORS_8(sum, 16), CHUNKSTATE_ACCUMULATORS_8(sum, 24),
        CHUNKSTATE_ACCUMULATORS_8(sum, 32), CHUNKSTATE_ACCUMULATORS_8(sum, 40),
        CHUNKSTATE_ACCUMULATORS_8(sum, 48), CHUNKSTATE_ACCUMULATORS_8(sum, 56)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef CHUNKSTATE_ACCUMULATORS_8

// ---------------------------------------------------------------------------------------------
// host

/// A map of a row-major bf16 matrix [rows, columns] with `pitch` elements between rows, in boxes of
/// [box_rows, 64] swizzled for wgmma. The address and the pitch in bytes are multiples of 16.
/// With `boxes` above 1, a copy brings so many neighbours one behind the other; its coordinates are
/// then 0, the row, and the column / 64, and `columns` is a multiple of 64.
/// Copies read zeros outside the matrix. Throws CudaError.
CUtensorMap bf16_tile_map(const void* data, std::int64_t columns, std::int64_t rows,
                          std::int64_t pitch, int box_rows, int boxes = 1);

}  // namespace chunkstate::hopper
