// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/variants/hopper_layout.cuh"

// The state of the Hopper scan in the registers of one warpgroup, and where it comes from and goes.
namespace chunkstate::cuda::hopper_scan {

template <Flow flow>
class HeldState {
 protected:
  __device__ __forceinline__ HeldState(const Scan& scan, const Shared& shared, int lane)
      : scan_(scan), shared_(shared), lane_(lane) {}

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int k = 0; k < 64; ++k) S_[k] = 0.0F;
  }
  __device__ __forceinline__ void round() {
#pragma unroll
    for (int k = 0; k < 32; ++k) rounded_[k] = pack_bf16(S_[2 * k], S_[2 * k + 1]);
  }

  __device__ __forceinline__ void load() {
    clear();
    if constexpr (flow == Flow::lookback) {
      const int slots = static_cast<int>(scan_.args.state.extent[0]);
      for (int slot = 0; slot < slots && scan_.has_state; ++slot) {
        if (slot != scan_.first_chunk) add_slot(slot);
      }
      keep();
      // The current slot's content is overwritten, if the call begins with a chunk.
      if (scan_.has_state && scan_.first_block > 0) add_slot(scan_.first_chunk);
    } else if constexpr (flow != Flow::twice) {
      const bool forgets = flow != Flow::exact && scan_.first_block == 0;
      if (scan_.args.state.data != nullptr && !forgets) load_slot(S_, 0);
    }
    round();
  }

  // With a constant type the loads overlap; a type known at run time makes each of them wait, 10 us
  // in all. Rows row_ and row_ + 8, columns 8 k + column_ and the next one, as wgmma spreads them.
  __device__ __forceinline__ void load_slot(float (&value)[64], int slot) const {
    const DType dtype = scan_.args.state.dtype;
    if (flow == Flow::lookback || dtype == DType::fp32) {
      load_as(DType::fp32, value, slot);
    } else {
      load_as(dtype, value, slot);
    }
  }
  __device__ __forceinline__ void load_as(DType dtype, float (&value)[64], int slot) const {
    const std::byte* const row[2] = {row_at(slot, 0), row_at(slot, 8)};
#pragma unroll
    for (int k = 0; k < 32; ++k) {
      float pair[2];
      load_elements(row[k % 2] + k / 2 * 8 * bytes_of(dtype), dtype, pair);
      value[2 * k] = pair[0], value[2 * k + 1] = pair[1];
    }
  }
  __device__ __forceinline__ void store(int slot) const {
    const DType dtype = scan_.args.state.dtype;
    if (scan_.args.state.data == nullptr) return;
    if (flow == Flow::lookback || dtype == DType::fp32) {
      store_as(DType::fp32, S_, slot);
    } else {
      store_as(dtype, S_, slot);
    }
  }
  __device__ __forceinline__ void store_as(DType dtype, const float (&value)[64], int slot) const {
    std::byte* const row[2] = {row_at(slot, 0), row_at(slot, 8)};
#pragma unroll
    for (int k = 0; k < 32; ++k) {
      store_elements(row[k % 2] + k / 2 * 8 * bytes_of(dtype), dtype,
                     {value[2 * k], value[2 * k + 1]});
    }
  }
  // Elements of a row are packed (allows_vectors), so that only the rows' addresses take registers.
  // Volatile: what it is formed of must not be kept through the steps, which need all registers.
  __device__ __forceinline__ std::byte* row_at(int slot, int further) const {
    int thread, block_index;
    asm volatile("mov.u32 %0, %%tid.x; mov.u32 %1, %%ctaid.x;" : "=r"(thread), "=r"(block_index));
    const int row = thread % group_threads / warp_size * 16 + thread % warp_size / 4;
    return scan_.args.state.at(slot, block_index, row + further, thread % 4 * 2);
  }

  // ------------------------------------------------------------------------------------- lookback

  // Four of the thread's numbers at a time: whole copies of the state would not fit into registers.
  static constexpr int quads = 16;
  struct Slot {
    float* row[2];

    __device__ __forceinline__ float4 load(int quad) const {
      const float2 upper = __ldcg(reinterpret_cast<const float2*>(row[0] + quad * 8));
      const float2 lower = __ldcg(reinterpret_cast<const float2*>(row[1] + quad * 8));
      return make_float4(upper.x, upper.y, lower.x, lower.y);
    }
    __device__ __forceinline__ void store(int quad, float4 v) const {
      *reinterpret_cast<float2*>(row[0] + quad * 8) = make_float2(v.x, v.y);
      *reinterpret_cast<float2*>(row[1] + quad * 8) = make_float2(v.z, v.w);
    }
  };
  __device__ __forceinline__ Slot slot_at(int slot) const {
    return {{reinterpret_cast<float*>(row_at(slot, 0)), reinterpret_cast<float*>(row_at(slot, 8))}};
  }
  __device__ __forceinline__ void add_slot(int slot) {
    const Slot from = slot_at(slot);
#pragma unroll
    for (int k = 0; k < quads; ++k) add(k, 1.0F, from.load(k));
  }
  /// S += factor v.
  __device__ __forceinline__ void add(int quad, float factor, float4 v) {
    S_[4 * quad] += factor * v.x, S_[4 * quad + 1] += factor * v.y;
    S_[4 * quad + 2] += factor * v.z, S_[4 * quad + 3] += factor * v.w;
  }
  __device__ __forceinline__ float4 quad_of_state(int quad) const {
    return make_float4(S_[4 * quad], S_[4 * quad + 1], S_[4 * quad + 2], S_[4 * quad + 3]);
  }
  // A pointer, because the compiler folds offsets into its uses; numbers it would keep in
  // registers.
  __device__ __forceinline__ float4& kept(int quad) const {
    std::uint32_t thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return static_cast<float4*>(__cvta_shared_to_generic(
        shared_.kept_state() + thread % group_threads * 16))[quad * group_threads];
  }
  /// Remembers the state, to be subtracted at the chunk's end.
  __device__ __forceinline__ void keep() const {
#pragma unroll
    for (int k = 0; k < quads; ++k) kept(k) = quad_of_state(k);
  }
  /// What the chunk's tokens wrote: their state less the one that they began with, decayed.
  __device__ __forceinline__ float4 own(int quad) const {
    const float4 v = quad_of_state(quad), before = kept(quad);
    return make_float4(v.x - passed_ * before.x, v.y - passed_ * before.y, v.z - passed_ * before.z,
                       v.w - passed_ * before.w);
  }

  /// After a chunk. Its tokens read the sum over the slots, and the next chunk's all but the slot
  /// that it will overwrite. Slots are stored as they are at their chunk's end; lane s keeps the
  /// decay of slot s since then. Two slots need no memory until the end: the one that leaves is
  /// what the chunk began with.
  __device__ __forceinline__ void cross_border(int chunk, bool last) {
    const int slots = static_cast<int>(scan_.args.state.extent[0]);
    const int current = (scan_.first_chunk + chunk) % slots;
    const int next = current + 1 < slots ? current + 1 : 0;
    factor_ = lane_ == current ? 1.0F : factor_ * passed_;
    const bool stores = slots > 2 || last;
    const Slot to = slot_at(current);
#pragma unroll
    for (int k = 0; k < quads; ++k) {
      const float4 v = own(k);
      if (stores) to.store(k, v);
      if (slots <= 2)
        S_[4 * k] = v.x, S_[4 * k + 1] = v.y, S_[4 * k + 2] = v.z, S_[4 * k + 3] = v.w;
    }
    if (last) return decay_slots(chunk, current);
    if (slots == 1) {
      clear();
    } else if (slots > 2 && (scan_.has_state || chunk >= slots - 1)) {
      const float factor = __shfl_sync(full_warp, factor_, next);
      const Slot leaves = slot_at(next);
#pragma unroll
      for (int k = 0; k < quads; ++k) add(k, -factor, leaves.load(k));
    }
    keep();
  }

  /// The other slots of the result, decayed to the last token.
  __device__ __forceinline__ void decay_slots(int chunk, int current) const {
    const int slots = static_cast<int>(scan_.args.state.extent[0]);
    for (int slot = 0; slot < slots && scan_.has_state; ++slot) {
      const float slot_factor = __shfl_sync(full_warp, factor_, slot);
      if (slot == current) continue;
      const bool is_kept = slots == 2 && chunk > 0;
      const float factor = is_kept ? passed_ : slot_factor;
      const Slot at = slot_at(slot);
#pragma unroll
      for (int k = 0; k < quads; ++k) {
        const float4 v = is_kept ? kept(k) : at.load(k);
        at.store(k, make_float4(factor * v.x, factor * v.y, factor * v.z, factor * v.w));
      }
    }
  }

  const Scan& scan_;
  const Shared& shared_;
  int lane_;
  float passed_ = 1.0F;  // lookback: the decay since the chunk's start
  float factor_ = 1.0F;  // lookback: see cross_border

  float S_[64];
  std::uint32_t rounded_[32];
};

}  // namespace chunkstate::cuda::hopper_scan
