// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/variants/hopper_held_state.cuh"

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
class State : HeldState<flow> {
 public:
  __device__ __forceinline__ State(const Scan& scan, const Shared& shared, int warp, int lane)
      : HeldState<flow>(scan, shared, lane) {
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
  using Held = HeldState<flow>;
  using Held::load, Held::store, Held::clear, Held::round, Held::cross_border;
  using Held::scan_, Held::shared_, Held::lane_, Held::S_, Held::rounded_, Held::passed_;

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

  std::uint32_t fragment_;
  Cursor<token_slots> token_;
  Cursor<shared_slots_of(flow)> bc_;
  Cursor<gate_slots> gate_;
  Cursor<output_slots> y_;  // and the slot of M of the step before
  static_assert(gate_slots == output_slots);
  std::uint32_t has_x_ = 0, has_bc_ = 0;

  float Y0_[32], Y1_[32];
  std::uint32_t X0_[16], X1_[16], weighted_[16];
};

}  // namespace chunkstate::cuda::hopper_scan
