// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/variants/hopper_layout.cuh"

// The role of the Hopper scan that owns the state: one warpgroup.
namespace chunkstate::cuda::hopper_scan {

/// Per step:  r = S C^T  and  S = total S + (X out)^T B.
///
/// Computed transposed, because then head_dim is the 64 rows of wgmma and the state S[p][n] leaves
/// its update, rounded to bf16, as the left operand of S C^T: the recurrence never passes through
/// shared memory. The right operands are the tiles exactly as the copy engine delivers them. A
/// product with its left operand in registers keeps its warps from going on until it has begun, so
/// what can be done meanwhile stands between the products in program order.
template <int cluster>
class State {
 public:
  __device__ __forceinline__ State(const Scan& scan, const Shared& shared, int head, int warp,
                                   int lane)
      : scan_(scan), shared_(shared), head_(head), lane_(lane) {
    row_ = warp * 16 + lane / 4;
    column_ = lane % 4 * 2;
    // ldmatrix.trans / stmatrix.trans address of fragment lane / 8 in the tile's rows (tokens) 16
    // k... and columns (elements of head_dim) 16 warp...
    const int token = (lane & 7) + ((lane >> 4) << 3);
    fragment_ = static_cast<std::uint32_t>(token * 128 +
                                           (((warp * 2 + ((lane >> 3) & 1)) ^ (token & 7)) << 4));
  }

  __device__ __forceinline__ void load() {
    const DType dtype = scan_.args.state.dtype;
    if (scan_.args.state.data == nullptr || (scan_.chunk_blocks > 0 && scan_.first_block == 0)) {
#pragma unroll
      for (float& value : S_) value = 0.0F;
    } else if (dtype == DType::fp32) {
      load_as(DType::fp32);
    } else {
      load_as(dtype);
    }
  }

  __device__ __forceinline__ void store() const {
    const DType dtype = scan_.args.state.dtype;
    if (scan_.args.state.data == nullptr) return;
    if (dtype == DType::fp32) {
      store_as(DType::fp32);
    } else {
      store_as(dtype);
    }
  }

  /// All steps. period 0: the state is never forgotten. period 1: it is, where the decays say so,
  /// by factors of zero. Larger: chunks of that many steps, whose first step reads no state and
  /// whose last one updates none, because nobody would read it.
  template <int period>
  __device__ __forceinline__ void run() {
    wait(shared_.token_full(token_.slot), token_.parity);
    Loaded first;
    load_x(first, token_.slot);
    weight(even_, first);
    wait(shared_.shared_full(bc_.slot), bc_.parity);
    if constexpr (period <= 1) {
      for (int c = 0; c < scan_.steps; c += 2) {
        settle();
        step<true, true>(even_, odd_, true);
        step<true, true>(odd_, even_, c + 2 < scan_.steps);
      }
    } else {
      for (int c = 0;; c += period) {
        settle();
        step<false, true>(even_, odd_, true);
#pragma unroll
        for (int k = 1; k < period - 1; k += 2) {
          step<true, true>(odd_, even_, true);
          step<true, true>(even_, odd_, true);
        }
        if (c + period >= scan_.steps) break;
        step<true, false>(odd_, even_, true);
      }
      // The state after the last step is the call's result.
      step<true, true>(odd_, even_, false);
    }
  }

 private:
  // Nothing is in flight, but ptxas follows products only within one pass of a loop.
  __device__ __forceinline__ void settle() {
    wait_products<0>();
    pin(S_), pin(rounded_), pin(even_), pin(odd_);
  }

  // With a constant type the loads overlap; a type known at run time makes each of them wait, 10 us
  // in all. Rows row_ and row_ + 8, columns 8 k + column_ and the next one, as wgmma spreads them.
  __device__ __forceinline__ void load_as(DType dtype) {
#pragma unroll
    for (int k = 0; k < 32; ++k) {
      float pair[2];
      load_elements(pair_at(k), dtype, pair);
      S_[2 * k] = pair[0], S_[2 * k + 1] = pair[1];
    }
  }
  __device__ __forceinline__ void store_as(DType dtype) const {
#pragma unroll
    for (int k = 0; k < 32; ++k) store_elements(pair_at(k), dtype, {S_[2 * k], S_[2 * k + 1]});
  }
  __device__ __forceinline__ std::byte* pair_at(int pair) const {
    return scan_.args.state.at(0, head_, row_ + pair % 2 * 8, pair / 2 * 8 + column_);
  }

  /// A step's X and its factors in the update, as they come from shared memory.
  struct Loaded {
    std::uint32_t x[4][4];
    uint4 out[2];
  };
  __device__ __forceinline__ void load_x(Loaded& loaded, int slot) const {
    const std::uint32_t x = shared_.x(slot) + fragment_;
    const std::uint32_t factors = shared_.decays(slot) + Decays::out + (lane_ & 3) * 32;
    loaded.out[0] = load_shared_16(factors);
    loaded.out[1] = load_shared_16(factors + 16);
#pragma unroll
    for (int k = 0; k < 4; ++k) load_fragments_transposed(loaded.x[k], x + k * 2048);
  }
  __device__ __forceinline__ void weight(std::uint32_t (&weighted)[16],
                                         const Loaded& loaded) const {
    const uint4 a = loaded.out[0], b = loaded.out[1];
    const std::uint32_t out[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
    for (int k = 0; k < 16; ++k) {
      weighted[k] = multiply_bf16_pairs(loaded.x[k / 4][k % 4], out[k / 2]);
    }
  }

  /// Tokens 16 k to 16 k + 15.
  __device__ __forceinline__ void update(const std::uint32_t (&weighted)[16], int k,
                                         std::uint64_t B) {
    multiply_128_by_rows(S_, weighted + 4 * k, B + k * 2048 / 16);
  }

  template <bool reads, bool updates>
  __device__ __forceinline__ void step(std::uint32_t (&weighted)[16],
                                       std::uint32_t (&next_weighted)[16], bool has_next) {
    const std::uint64_t C = describe(shared_.C(bc_.slot), 16, 1024);
    const std::uint64_t B = describe(shared_.B(bc_.slot), tile_bytes, 1024);
    const float total = load_shared_float(shared_.decays(token_.slot) + Decays::total);
    const int token_slot = token_.slot, bc_slot = bc_.slot;
    token_.advance();
    bc_.advance();
    const std::uint32_t has_x = probe(shared_.token_full(token_.slot), token_.parity);
    const std::uint32_t has_bc = probe(shared_.shared_full(bc_.slot), bc_.parity);
    const std::uint32_t has_tile = probe(shared_.output_empty(y_.slot), y_.parity ^ 1);
    float Y[32];
    if constexpr (reads) {
#pragma unroll
      for (int k = 0; k < 32; ++k) rounded_[k] = pack_bf16(S_[2 * k], S_[2 * k + 1]);
      pin(rounded_);
      fence_products();
      multiply_64<false>(Y, rounded_, C);
#pragma unroll
      for (int k = 1; k < 8; ++k) {
        multiply_64<true>(Y, rounded_ + 4 * k, C + ((k >> 2) * tile_bytes + (k & 3) * 32) / 16);
      }
      commit_products();
      if constexpr (updates) {
#pragma unroll
        for (float& value : S_) value *= total;
      }
    } else {
#pragma unroll
      for (float& value : S_) value = 0.0F;
    }
    __syncwarp();
    if (lane_ == 0) arrive(shared_.token_empty(token_slot));

    // The update in two halves: while the first runs, y's tile is written, while the second does,
    // all is made ready for the next step.
    if constexpr (updates) {
      pin(S_), pin(weighted);
      fence_products();
      update(weighted, 0, B);
      update(weighted, 1, B);
      commit_products();
    }
    if constexpr (reads) {
      wait_products<updates ? 1 : 0>();
      pin(Y), pin(rounded_);
    }
    wait_unless(has_tile, shared_.output_empty(y_.slot), y_.parity ^ 1);
    if constexpr (reads) {
      const std::uint32_t tile = shared_.output(y_.slot) + fragment_;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        store_fragments_transposed(tile + k * 2048, pack_bf16(Y[8 * k], Y[8 * k + 1]),
                                   pack_bf16(Y[8 * k + 2], Y[8 * k + 3]),
                                   pack_bf16(Y[8 * k + 4], Y[8 * k + 5]),
                                   pack_bf16(Y[8 * k + 6], Y[8 * k + 7]));
      }
      __syncwarp();
    }
    if (lane_ == 0) arrive(shared_.read_full(y_.slot));
    if constexpr (updates) {
      fence_products();
      update(weighted, 2, B);
      update(weighted, 3, B);
      commit_products();
    }
    if (has_next) {
      Loaded next;
      wait_unless(has_x, shared_.token_full(token_.slot), token_.parity);
      load_x(next, token_.slot);
      wait_unless(has_bc, shared_.shared_full(bc_.slot), bc_.parity);
      weight(next_weighted, next);
      pin(next_weighted);
    }
    wait_products<0>();
    if constexpr (updates) pin(S_), pin(weighted);
    __syncwarp();
    if constexpr (cluster > 1) {
      if (lane_ < cluster) arrive_at_block(shared_.shared_empty(bc_slot), lane_);
    } else {
      if (lane_ == 0) arrive(shared_.shared_empty(bc_slot));
    }
    y_.advance();
  }

  const Scan& scan_;
  const Shared& shared_;
  int head_, lane_, row_, column_;
  std::uint32_t fragment_;
  Cursor<token_slots> token_;
  Cursor<shared_slots> bc_;
  Cursor<output_slots> y_;

  float S_[64];
  std::uint32_t rounded_[32], even_[16], odd_[16];
};

}  // namespace chunkstate::cuda::hopper_scan
