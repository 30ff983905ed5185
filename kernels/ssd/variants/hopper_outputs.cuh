// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/variants/hopper_layout.cuh"

// The role of the Hopper scan that makes y: two warpgroups, every second step each.
namespace chunkstate::cuda::hopper_scan {

/// Per step, for the 64 tokens i:
///
///   y_i = sum_j M_ij x_j + in_i r_i,   M_ij = C_i B_j 2^(lambda_i - lambda_j) delta_j for j < i,
///                                      plus D on the diagonal
///
/// where r_i = S C_i is what the state contributes, left in the tile of y by the state's warpgroup
/// in bf16. M is made in the registers from which wgmma takes its left operand, of C_i B_j fetched
/// in that order one step ahead: it never passes through shared memory. Warp w owns tokens 16 w to
/// 16 w + 15 and so the blocks (w, 0) to (w, w) of M.
class Outputs {
 public:
  __device__ __forceinline__ Outputs(const Scan& scan, const Shared& shared, int head, int group,
                                     int warp, int lane)
      : scan_(scan), shared_(shared), warp_(warp), lane_(lane), D_(scan.args.D(head)) {
    products_ = scan.products +
                static_cast<std::int64_t>(group) * scan.blocks * (fragment_bytes / 16) +
                fragment_block(warp, 0) * warp_size + lane;
    row_ = warp * 16 + lane / 4;
    // ldmatrix / stmatrix address of fragment lane / 8: tokens 16 warp + {0, 8}, elements 16 k +
    // {0, 8}.
    const int token = warp * 16 + (lane & 15);
    token_row_ = static_cast<std::uint32_t>(token * 128);
    piece_ = static_cast<std::uint32_t>(lane >> 4);
    swizzle_ = static_cast<std::uint32_t>(token & 7);
  }

  /// The steps first, first + output_groups, ... The state contributes nothing to the first step of
  /// every `period`, if that is larger than 1.
  template <int period>
  __device__ __forceinline__ void run(int first) {
    token_.advance(first);
    y_.advance(first);
    Fragments fragments;
    fetch(fragments, first);
    for (int step = first; step < scan_.steps; step += output_groups) {
      make(fragments, step, period > 1 && step % (period > 1 ? period : 1) == 0);
    }
  }

 private:
  struct Fragments {
    uint4 block[4];
  };

  __device__ __forceinline__ void fetch(Fragments& fragments, int step) const {
    const uint4* const source = products_ + static_cast<std::int64_t>(step) * (fragment_bytes / 16);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      fragments.block[k] = make_uint4(0, 0, 0, 0);
      if (k <= warp_ && step < scan_.blocks) fragments.block[k] = __ldcg(source + k * warp_size);
    }
  }

  /// The pair of columns first, first + 1 of the diagonal block in row `row`, both counted from its
  /// corner.
  __device__ __forceinline__ std::uint32_t on_diagonal(float low, float high, int row,
                                                       int first) const {
    return pack_bf16(first < row    ? low
                     : first == row ? low + D_
                                    : 0.0F,
                     first + 1 < row    ? high
                     : first + 1 == row ? high + D_
                                        : 0.0F);
  }

  // One copy of the code per warp, without branches between the exponentials.
  __device__ __forceinline__ void make_gate(std::uint32_t (&gate)[16], const Fragments& fragments,
                                            std::uint32_t decays) const {
    switch (warp_) {
      case 0:
        return make_gate_of<0>(gate, fragments, decays);
      case 1:
        return make_gate_of<1>(gate, fragments, decays);
      case 2:
        return make_gate_of<2>(gate, fragments, decays);
      default:
        return make_gate_of<3>(gate, fragments, decays);
    }
  }

  template <int warp>
  __device__ __forceinline__ void make_gate_of(std::uint32_t (&gate)[16],
                                               const Fragments& fragments,
                                               std::uint32_t decays) const {
    const float upper = load_shared_float(decays + Decays::lambda + 4 * row_);
    const float lower = load_shared_float(decays + Decays::lambda + 4 * row_ + 32);
    const int row = lane_ / 4, column = lane_ % 4 * 2;
    float4 shifted[warp + 1];
#pragma unroll
    for (int k = 0; k <= warp; ++k) {
      shifted[k] = load_shared_float4(decays + Decays::shifted + lane_ % 4 * 64 + k * 16);
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (k > warp) {
        gate[4 * k] = gate[4 * k + 1] = gate[4 * k + 2] = gate[4 * k + 3] = 0;
        continue;
      }
      const float4 s = shifted[k <= warp ? k : 0];
      const uint4 v = fragments.block[k];
      const float a[8] = {
          low_bf16(v.x) * fast_exp2(upper - s.x), high_bf16(v.x) * fast_exp2(upper - s.y),
          low_bf16(v.y) * fast_exp2(lower - s.x), high_bf16(v.y) * fast_exp2(lower - s.y),
          low_bf16(v.z) * fast_exp2(upper - s.z), high_bf16(v.z) * fast_exp2(upper - s.w),
          low_bf16(v.w) * fast_exp2(lower - s.z), high_bf16(v.w) * fast_exp2(lower - s.w)};
      if (k < warp) {
#pragma unroll
        for (int e = 0; e < 4; ++e) gate[4 * k + e] = pack_bf16(a[2 * e], a[2 * e + 1]);
      } else {
        gate[4 * k] = on_diagonal(a[0], a[1], row, column);
        gate[4 * k + 1] = on_diagonal(a[2], a[3], row + 8, column);
        gate[4 * k + 2] = on_diagonal(a[4], a[5], row, column + 8);
        gate[4 * k + 3] = on_diagonal(a[6], a[7], row + 8, column + 8);
      }
    }
  }

  __device__ __forceinline__ void make(Fragments& fragments, int step, bool no_state) {
    wait(shared_.token_full(token_.slot), token_.parity);
    const std::uint32_t decays = shared_.decays(token_.slot);
    std::uint32_t gate[16];
    make_gate(gate, fragments, decays);
    fetch(fragments, step + output_groups);

    float Y[32] = {};
    const std::uint64_t x = describe(shared_.x(token_.slot), tile_bytes, 1024);
    pin(Y), pin(gate);
    fence_products();
    multiply_64_by_rows<false>(Y, gate, x);
#pragma unroll
    for (int k = 1; k < 4; ++k) multiply_64_by_rows<true>(Y, gate + 4 * k, x + k * 2048 / 16);
    commit_products();

    const float in_upper = load_shared_float(decays + Decays::in + 4 * row_);
    const float in_lower = load_shared_float(decays + Decays::in + 4 * row_ + 32);
    wait(shared_.read_full(y_.slot), y_.parity);
    const std::uint32_t tile = shared_.output(y_.slot) + token_row_;
    std::uint32_t read[4][4];
#pragma unroll
    for (int k = 0; k < 4; ++k)
      load_fragments(read[k], tile + (((2 * k + piece_) ^ swizzle_) << 4));

    wait_products<0>();
    pin(Y), pin(gate);
    __syncwarp();
    if (lane_ == 0) arrive(shared_.token_empty(token_.slot));
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      std::uint32_t sum[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        // Fragments 0 and 1 are columns 16 k to 16 k + 7 of the upper and lower rows, 2 and 3 the
        // next 8.
        const int at = 8 * k + 4 * (e / 2) + 2 * (e % 2);
        const float in = e % 2 == 0 ? in_upper : in_lower;
        sum[e] = no_state ? pack_bf16(Y[at], Y[at + 1])
                          : pack_bf16(Y[at] + in * low_bf16(read[k][e]),
                                      Y[at + 1] + in * high_bf16(read[k][e]));
      }
      store_fragments(tile + (((2 * k + piece_) ^ swizzle_) << 4), sum[0], sum[1], sum[2], sum[3]);
    }
    __syncwarp();
    if (lane_ == 0) arrive(shared_.output_full(y_.slot));  // copy_out fences
    token_.advance(output_groups);
    y_.advance(output_groups);
  }

  const Scan& scan_;
  const Shared& shared_;
  const uint4* products_;
  int warp_, lane_, row_;
  std::uint32_t token_row_, piece_, swizzle_;
  float D_;
  Cursor<token_slots> token_;
  Cursor<output_slots> y_;
};

}  // namespace chunkstate::cuda::hopper_scan
