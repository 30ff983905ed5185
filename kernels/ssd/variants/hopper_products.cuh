// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/variants/hopper_layout.cuh"

// The role of the Hopper scan that runs the matrix products: one warpgroup.
namespace chunkstate::cuda::hopper_scan {

/// Everything is computed transposed, because then head_dim is the 64 rows of wgmma and
///   * the state S[p][n] leaves its product, rounded to bf16, as the left operand of S C^T: the
///     recurrence never passes through shared memory;
///   * X^T comes out of the tile of X by ldmatrix.trans, once, and serves both products that need
///   it;
///   * right operands are the tiles exactly as the copy engine delivers them.
///
/// Per step:  Y^T = (S C^T) * in_i + X^T M^T  and  S = S * total + (X * out_j)^T B.
/// Tensor queue: read(c), update(c), gate(c), read(c + 1), ...: the register work between them
/// hides behind whichever is running.
template <int cluster>
class Products {
 public:
  __device__ __forceinline__ Products(const Scan& scan, const Shared& shared, int head, int warp,
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

  __device__ __forceinline__ void load_state() {
    const DType dtype = scan_.args.state.dtype;
    if (scan_.args.state.data == nullptr || (scan_.chunk_blocks > 0 && scan_.first_block == 0)) {
#pragma unroll
      for (float& value : S_) value = 0.0F;
    } else if (dtype == DType::fp32) {
      load_state_as(DType::fp32);
    } else {
      load_state_as(dtype);
    }
    round_state();
  }

  __device__ __forceinline__ void store_state() const {
    const DType dtype = scan_.args.state.dtype;
    if (scan_.args.state.data == nullptr) return;
    if (dtype == DType::fp32) {
      store_state_as(DType::fp32);
    } else {
      store_state_as(dtype);
    }
  }

  /// All steps. period 0: the state is never forgotten. period 1: it is, where the decays say so,
  /// by factors of zero. Larger: chunks of that many steps, whose first step reads no state and
  /// whose last one updates none, because nobody would read it.
  template <int period>
  __device__ __forceinline__ void run() {
    if constexpr (period <= 1) {
      for (int c = 0; c < scan_.steps; c += 2) {
        step<true, true>(Y0_, Y1_, X0_, X1_, c);
        step<true, true>(Y1_, Y0_, X1_, X0_, c + 1);
        drain();
      }
    } else {
      for (int c = 0;; c += period) {
        step<false, true>(Y0_, Y1_, X0_, X1_, c);
#pragma unroll
        for (int k = 1; k < period - 1; k += 2) {
          step<true, true>(Y1_, Y0_, X1_, X0_, c + k);
          step<true, true>(Y0_, Y1_, X0_, X1_, c + k + 1);
        }
        drain();
        if (c + period >= scan_.steps) break;
        step<true, false>(Y1_, Y0_, X1_, X0_, c + period - 1);
        drain();
      }
      step<true, true>(Y1_, Y0_, X1_, X0_, scan_.steps - 1);  // its state is the call's result
      drain();
    }
    const int last = scan_.steps - 1;
    wait(shared_.output_empty(last % output_slots), ((last / output_slots) & 1) ^ 1);
    write_output(Y1_, last);
  }

 private:
  // With a constant type the loads overlap; a type known at run time makes each of them wait, 10 us
  // in all. Rows row_ and row_ + 8, columns 8 k + column_ and the next one, as wgmma spreads them.
  __device__ __forceinline__ void load_state_as(DType dtype) {
#pragma unroll
    for (int k = 0; k < 32; ++k) {
      float pair[2];
      load_elements(state_at(k), dtype, pair);
      S_[2 * k] = pair[0], S_[2 * k + 1] = pair[1];
    }
  }
  __device__ __forceinline__ void store_state_as(DType dtype) const {
#pragma unroll
    for (int k = 0; k < 32; ++k) store_elements(state_at(k), dtype, {S_[2 * k], S_[2 * k + 1]});
  }
  __device__ __forceinline__ std::byte* state_at(int pair) const {
    return scan_.args.state.at(0, head_, row_ + pair % 2 * 8, pair / 2 * 8 + column_);
  }

  // ptxas follows products in flight only within one pass of a loop. This costs nothing: the
  // product in flight is nearly done.
  __device__ __forceinline__ void drain() {
    wait_products<0>();
    pin(Y0_), pin(Y1_), pin(X0_), pin(X1_);
  }

  __device__ __forceinline__ void round_state() {
#pragma unroll
    for (int k = 0; k < 32; ++k) rounded_[k] = pack_bf16(S_[2 * k], S_[2 * k + 1]);
  }

  __device__ __forceinline__ void write_output(float (&Y)[32], int c) {
    const std::uint32_t tile = shared_.output(c % output_slots) + fragment_;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      store_fragments_transposed(
          tile + k * 2048, pack_bf16(Y[8 * k], Y[8 * k + 1]), pack_bf16(Y[8 * k + 2], Y[8 * k + 3]),
          pack_bf16(Y[8 * k + 4], Y[8 * k + 5]), pack_bf16(Y[8 * k + 6], Y[8 * k + 7]));
    }
    __syncwarp();
    if (lane_ == 0) arrive(shared_.output_full(c % output_slots));  // copy_out fences
  }

  template <bool reads_state, bool updates_state>
  __device__ __forceinline__ void step(float (&Y)[32], float (&previous_Y)[32],
                                       std::uint32_t (&X)[16], std::uint32_t (&previous_X)[16],
                                       int c) {
    const std::uint64_t C = describe(shared_.C(bc_.slot), 16, 1024);
    const std::uint64_t B = describe(shared_.B(bc_.slot), tile_bytes, 1024);
    const std::uint64_t gate = describe(shared_.gate(c & 1), 16, 1024);
    const std::uint32_t decays = shared_.decays(token_.slot);
    wait_unless(token_ready_, shared_.token_full(token_.slot), token_.parity);
    // Loads before the products: their latency hides behind the issue of these.
    const std::uint32_t x = shared_.x(token_.slot) + fragment_;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      std::uint32_t fragment[4];
      load_fragments_transposed(fragment, x + k * 2048);
      X[4 * k] = fragment[0], X[4 * k + 1] = fragment[1];
      X[4 * k + 2] = fragment[2], X[4 * k + 3] = fragment[3];
    }
    const std::uint32_t factors = decays + Decays::out + (lane_ & 3) * 32;
    const uint4 out0 = load_shared_16(factors), out1 = load_shared_16(factors + 16);
    const float total = load_shared_float(decays + Decays::total);
    wait_unless(bc_ready_, shared_.shared_full(bc_.slot), bc_.parity);
    if constexpr (reads_state) {
      pin(Y), pin(rounded_);
      fence_products();
      multiply_64<false>(Y, rounded_, C);
#pragma unroll
      for (int k = 1; k < 8; ++k) {
        multiply_64<true>(Y, rounded_ + 4 * k, C + ((k >> 2) * tile_bytes + (k & 3) * 32) / 16);
      }
    }
    commit_products();

    wait_products<1>();  // gate(c - 1)
    pin(previous_Y), pin(previous_X);
    const int previous_slot = (c + 1) % output_slots;
    const std::uint32_t previous_parity = (((c - 1) / output_slots) & 1) ^ 1;
    const std::uint32_t output_free = probe(shared_.output_empty(previous_slot), previous_parity);
    const std::uint32_t gate_ready = probe(shared_.gate_full(c & 1), (c >> 1) & 1);
    if constexpr (updates_state) {
      const std::uint32_t out[8] = {out0.x, out0.y, out0.z, out0.w, out1.x, out1.y, out1.z, out1.w};
      if constexpr (reads_state) {
#pragma unroll
        for (int k = 0; k < 64; ++k) S_[k] *= total;
      }
#pragma unroll
      for (int k = 0; k < 16; ++k) weighted_[k] = multiply_bf16_pairs(X[k], out[k / 2]);
      pin(S_), pin(weighted_);
      fence_products();
      multiply_128_by_rows<reads_state>(S_, weighted_, B);
#pragma unroll
      for (int k = 1; k < 4; ++k)
        multiply_128_by_rows<true>(S_, weighted_ + 4 * k, B + k * 2048 / 16);
    }
    commit_products();

    float4 in[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      in[k] = load_shared_float4(decays + Decays::in + (lane_ & 3) * 64 + k * 16);
    }
    if (c > 0) {
      if (lane_ == 0) arrive(shared_.gate_empty((c - 1) & 1));
      wait_unless(output_free, shared_.output_empty(previous_slot), previous_parity);
      write_output(previous_Y, c - 1);
    }

    wait_products<1>();  // read(c)
    pin(Y), pin(rounded_);
    if constexpr (reads_state) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        Y[8 * k] *= in[k].x, Y[8 * k + 1] *= in[k].y, Y[8 * k + 2] *= in[k].x;
        Y[8 * k + 3] *= in[k].y, Y[8 * k + 4] *= in[k].z, Y[8 * k + 5] *= in[k].w;
        Y[8 * k + 6] *= in[k].z, Y[8 * k + 7] *= in[k].w;
      }
    }
    wait_unless(gate_ready, shared_.gate_full(c & 1), (c >> 1) & 1);
    pin(Y), pin(X);
    fence_products();
    multiply_64<reads_state>(Y, X, gate);
#pragma unroll
    for (int k = 1; k < 4; ++k) multiply_64<true>(Y, X + 4 * k, gate + k * 32 / 16);
    commit_products();

    const int token_slot = token_.slot, bc_slot = bc_.slot;
    token_.advance();
    bc_.advance();
    token_ready_ = probe(shared_.token_full(token_.slot), token_.parity);
    bc_ready_ = probe(shared_.shared_full(bc_.slot), bc_.parity);

    wait_products<1>();  // update(c)
    pin(S_), pin(weighted_);
    __syncwarp();
    if (lane_ == 0) arrive(shared_.token_empty(token_slot));
    if constexpr (cluster > 1) {
      if (lane_ < cluster) arrive_at_block(shared_.shared_empty(bc_slot), lane_);
    } else {
      if (lane_ == 0) arrive(shared_.shared_empty(bc_slot));
    }
    if constexpr (updates_state) round_state();
  }

  const Scan& scan_;
  const Shared& shared_;
  int head_, lane_, row_, column_;
  std::uint32_t fragment_;
  Cursor<token_slots> token_;
  Cursor<shared_slots> bc_;
  std::uint32_t token_ready_ = 0, bc_ready_ = 0;

  float S_[64], Y0_[32] = {}, Y1_[32] = {};
  std::uint32_t rounded_[32], X0_[16] = {}, X1_[16] = {}, weighted_[16];
};

}  // namespace chunkstate::cuda::hopper_scan
