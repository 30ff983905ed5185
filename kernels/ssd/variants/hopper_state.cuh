// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/variants/hopper_layout.cuh"

// The role of the Hopper scan that owns the state and makes y: one warpgroup.
namespace chunkstate::cuda::hopper_scan {

/// Per step, with in_i the decay from its start to token i, out_j that from j to its end times
/// delta_j:
///
///   y = in (S C^T) + X^T M^T      S = total S + (X out)^T B
///
/// Computed transposed, because then head_dim is the 64 rows of wgmma and the state S[p][n] leaves
/// its update, rounded to bf16, as the left operand of S C^T, and X^T, once loaded, that of both
/// other products: the recurrence never passes through shared memory. The right operands are the
/// tiles exactly as the copy engine delivers them. The tensor cores' queue is S C^T, the update,
/// X^T M^T, then the next step's; what registers need in between is done while they work.
template <Flow flow>
class State {
 public:
  __device__ __forceinline__ State(const Scan& scan, const Shared& shared, int warp, int lane)
      : scan_(scan), shared_(shared), lane_(lane) {
    // ldmatrix.trans / stmatrix.trans address of fragment lane / 8 in the tile's rows (tokens) 16
    // k... and columns (elements of head_dim) 16 warp...
    const int token = (lane & 7) + ((lane >> 4) << 3);
    fragment_ = static_cast<std::uint32_t>(token * 128 +
                                           (((warp * 2 + ((lane >> 3) & 1)) ^ (token & 7)) << 4));
  }

  __device__ __forceinline__ void run() {
    load();
    if constexpr (flow == Flow::exact) {
      steps(scan_.steps);
      store(0);
    } else if constexpr (flow == Flow::chunks_of_4) {
      run_chunks_of_4();
      store(0);
    } else {
      int left = min(scan_.chunk_blocks - scan_.first_block, scan_.steps);
      for (int done = 0, chunk = 0; done < scan_.steps; ++chunk) {
        if constexpr (flow == Flow::twice) {
          clear();
          end_state(left);
          if (done + left == scan_.steps) store(0);
          round();
        } else if (flow == Flow::chunks && chunk > 0) {
          clear();
          round();
        }
        passed_ = 1.0F;
        steps(left);
        done += left;
        if constexpr (flow == Flow::lookback) {
          cross_border(chunk, done == scan_.steps);
          round();
        }
        left = min(scan_.chunk_blocks, scan_.steps - done);
      }
      if constexpr (flow == Flow::chunks) store(0);
    }
  }

 private:
  // ----------------------------------------------------------------------------- the state itself

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

  // ---------------------------------------------------------------------------------------- steps

  // Nothing is in flight, but ptxas follows products only within one pass of a loop.
  __device__ __forceinline__ void settle() {
    wait_products<0>();
    pin(S_), pin(rounded_), pin(Y0_), pin(Y1_), pin(X0_), pin(X1_), pin(weighted_);
  }

  // Their old values are dead, which settle would hide.
  __device__ __forceinline__ void define_all() {
    define(Y0_), define(Y1_), define(X0_), define(X1_), define(weighted_);
  }

  /// So many steps. All have left the tensor cores at the end, and their y is on its way.
  __device__ __forceinline__ void steps(int count) {
    define_all();
    for (int k = 0; k + 1 < count; k += 2) {
      settle();
      step<true, true>(Y0_, Y1_, X0_, X1_, k > 0);
      step<true, true>(Y1_, Y0_, X1_, X0_, true);
    }
    settle();
    if (count % 2 == 0) return finish(Y1_);
    step<true, true>(Y0_, Y1_, X0_, X1_, count > 1);
    settle();
    finish(Y0_);
  }

  /// Chunks of four steps: a first one reads no state, a last one updates none, except that the
  /// state after the last step of all is the call's result.
  __device__ __forceinline__ void run_chunks_of_4() {
    define_all();
    for (int c = 0;; c += 4) {
      settle();
      step<false, true>(Y0_, Y1_, X0_, X1_, c > 0);
      step<true, true>(Y1_, Y0_, X1_, X0_, true);
      settle();
      step<true, true>(Y0_, Y1_, X0_, X1_, true);
      if (c + 4 >= scan_.steps) break;
      settle();
      step<true, false>(Y1_, Y0_, X1_, X0_, true);
    }
    settle();
    step<true, true>(Y1_, Y0_, X1_, X0_, true);
    settle();
    finish(Y1_);
  }

  /// X^T of the step's tokens, elements 16 warp...
  __device__ __forceinline__ void load_x(std::uint32_t (&X)[16]) const {
    const std::uint32_t x = shared_.x(token_.slot) + fragment_;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      std::uint32_t part[4];
      load_fragments_transposed(part, x + k * 2048);
#pragma unroll
      for (int e = 0; e < 4; ++e) X[4 * k + e] = part[e];
    }
  }
  struct Weights {
    uint4 part[2];
  };
  __device__ __forceinline__ Weights load_weights() const {
    const std::uint32_t out = shared_.decays(token_.slot) + Decays::out + (lane_ & 3) * 32;
    return {{load_shared_16(out), load_shared_16(out + 16)}};
  }
  __device__ __forceinline__ float load_total() const {
    return load_shared_float(shared_.decays(token_.slot) + Decays::total);
  }
  __device__ __forceinline__ void weigh(std::uint32_t (&weighted)[16], const std::uint32_t (&X)[16],
                                        const Weights& w) const {
    const std::uint32_t out[8] = {w.part[0].x, w.part[0].y, w.part[0].z, w.part[0].w,
                                  w.part[1].x, w.part[1].y, w.part[1].z, w.part[1].w};
#pragma unroll
    for (int k = 0; k < 16; ++k) weighted[k] = multiply_bf16_pairs(X[k], out[k / 2]);
  }
  __device__ __forceinline__ void update(const std::uint32_t (&weighted)[16], int slot) {
    const std::uint64_t B = describe(shared_.B(slot), tile_bytes, 1024);
    fence_products();
#pragma unroll
    for (int k = 0; k < 4; ++k) multiply_128_by_rows(S_, weighted + 4 * k, B + k * 2048 / 16);
    commit_products();
  }
  __device__ __forceinline__ void free_shared(int slot) const {
    __syncwarp();
    if (lane_ < scan_.cluster) arrive_at_block(shared_.shared_empty(slot), lane_);
  }
  __device__ __forceinline__ void advance() {
    token_.advance();
    bc_.advance();
    has_x_ = probe(shared_.token_full(token_.slot), token_.parity);
    has_bc_ = probe(shared_.shared_full(bc_.slot), bc_.parity);
  }

  /// The end state of a chunk of `count` steps, from nothing, without outputs.
  __device__ __forceinline__ void end_state(int count) {
    const auto prepare = [&](std::uint32_t(&weighted)[16], float& total) {
      wait_unless(has_x_, shared_.token_full(token_.slot), token_.parity);
      load_x(weighted);
      total = load_total();
      weigh(weighted, weighted, load_weights());
      arrive_with_warp(shared_.token_empty(token_.slot));
    };
    const auto add = [&](std::uint32_t(&weighted)[16], float& total,
                         std::uint32_t(&next_weighted)[16], bool has_next) {
      const int slot = bc_.slot;
#pragma unroll
      for (int k = 0; k < 64; ++k) S_[k] *= total;
      wait_unless(has_bc_, shared_.shared_full(slot), bc_.parity);
      pin(S_), pin(weighted);
      update(weighted, slot);
      advance();
      if (has_next) prepare(next_weighted, total);
      wait_products<0>();
      pin(S_), pin(weighted);
      free_shared(slot);
    };
    float total;
    prepare(X0_, total);
    for (int k = 0; k < count; k += 2) {
      add(X0_, total, X1_, k + 1 < count);
      if (k + 1 < count) add(X1_, total, X0_, k + 2 < count);
    }
  }

  /// Sends a step's finished y on its way and frees the M that it was made with.
  __device__ __forceinline__ void finish(const float (&Y)[32]) {
    finish(Y, probe(shared_.output_empty(y_.slot), y_.parity ^ 1));
  }
  __device__ __forceinline__ void finish(const float (&Y)[32], std::uint32_t has_tile) {
    __syncwarp();
    if (lane_ == 0) arrive(shared_.gate_empty(y_.slot));
    wait_unless(has_tile, shared_.output_empty(y_.slot), y_.parity ^ 1);
    const std::uint32_t tile = shared_.output(y_.slot) + fragment_;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      store_fragments_transposed(
          tile + k * 2048, pack_bf16(Y[8 * k], Y[8 * k + 1]), pack_bf16(Y[8 * k + 2], Y[8 * k + 3]),
          pack_bf16(Y[8 * k + 4], Y[8 * k + 5]), pack_bf16(Y[8 * k + 6], Y[8 * k + 7]));
    }
    __syncwarp();
    if (lane_ == 0) arrive(shared_.output_full(y_.slot));  // copy_out fences
    y_.advance();
  }

  /// One step into Y, whose y the next step sends off, as this one does for the step before.
  template <bool reads, bool updates>
  __device__ __forceinline__ void step(float (&Y)[32], float (&Y_before)[32],
                                       std::uint32_t (&X)[16], std::uint32_t (&X_before)[16],
                                       bool has_before) {
    const int slot = bc_.slot;
    const std::uint32_t decays = shared_.decays(token_.slot);
    wait_unless(has_x_, shared_.token_full(token_.slot), token_.parity);
    wait_unless(has_bc_, shared_.shared_full(slot), bc_.parity);
    // Loads before the products: their latency hides behind the issue of these.
    load_x(X);
    const Weights weights = load_weights();
    const float total = load_total();
    if constexpr (reads) {
      const std::uint64_t C = describe(shared_.C(slot), 16, 1024);
      pin(Y), pin(rounded_);
      fence_products();
      multiply_64<false>(Y, rounded_, C);
#pragma unroll
      for (int k = 1; k < 8; ++k) {
        multiply_64<true>(Y, rounded_ + 4 * k, C + ((k >> 2) * tile_bytes + (k & 3) * 32) / 16);
      }
      commit_products();
    }
    wait_products<reads ? 1 : 0>();  // the step before
    pin(Y_before), pin(X_before);
    const std::uint32_t has_tile = probe(shared_.output_empty(y_.slot), y_.parity ^ 1);
    const std::uint32_t has_gate = probe(shared_.gate_full(gate_.slot), gate_.parity);

    if constexpr (updates) {
#pragma unroll
      for (int k = 0; k < 64; ++k) S_[k] = reads ? S_[k] * total : 0.0F;
      if constexpr (flow == Flow::lookback) passed_ *= total;
      weigh(weighted_, X, weights);
      pin(S_), pin(weighted_);
      update(weighted_, slot);
    }
    if (has_before) finish(Y_before, has_tile);
    float4 in[4];
    if constexpr (reads) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        in[k] = load_shared_float4(decays + Decays::in + (lane_ & 3) * 64 + k * 16);
      }
    }

    if constexpr (reads) {
      wait_products<updates ? 1 : 0>();
      pin(Y), pin(rounded_);
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        Y[8 * k] *= in[k].x, Y[8 * k + 1] *= in[k].y;
        Y[8 * k + 2] *= in[k].x, Y[8 * k + 3] *= in[k].y;
        Y[8 * k + 4] *= in[k].z, Y[8 * k + 5] *= in[k].w;
        Y[8 * k + 6] *= in[k].z, Y[8 * k + 7] *= in[k].w;
      }
    }
    arrive_with_warp(shared_.token_empty(token_.slot));
    wait_unless(has_gate, shared_.gate_full(gate_.slot), gate_.parity);
    // M was written by ordinary stores. A fence between proxies may stand anywhere between them and
    // the product that reads them; here the tensor cores are busy with the update meanwhile.
    fence_async();
    const std::uint64_t M = describe(shared_.gate(gate_.slot), 16, 1024);
    pin(Y), pin(X);
    fence_products();
    multiply_64<reads>(Y, X, M);
#pragma unroll
    for (int k = 1; k < 4; ++k) multiply_64<true>(Y, X + 4 * k, M + k * 32 / 16);
    commit_products();
    gate_.advance();
    advance();

    if constexpr (updates) {
      wait_products<1>();
      pin(S_), pin(weighted_);
      free_shared(slot);
      round();
    } else {
      free_shared(slot);
    }
  }

  const Scan& scan_;
  const Shared& shared_;
  int lane_;
  std::uint32_t fragment_;
  Cursor<token_slots> token_;
  Cursor<shared_slots_of(flow)> bc_;
  Cursor<gate_slots> gate_;
  Cursor<output_slots> y_;  // and the slot of M of the step before
  static_assert(gate_slots == output_slots);
  std::uint32_t has_x_ = 0, has_bc_ = 0;
  float passed_ = 1.0F;  // lookback: the decay since the chunk's start
  float factor_ = 1.0F;  // lookback: see cross_border

  float S_[64], Y0_[32], Y1_[32];
  std::uint32_t rounded_[32], X0_[16], X1_[16], weighted_[16];
};

}  // namespace chunkstate::cuda::hopper_scan
