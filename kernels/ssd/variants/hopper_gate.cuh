// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/variants/hopper_layout.cuh"

// The role of the Hopper scan that makes M, one warpgroup.
namespace chunkstate::cuda::hopper_scan {

/// Per step, for tokens i and j:
///
///   M_ij = C_i B_j 2^(lambda_i - lambda_j) delta_j for j < i, plus D on the diagonal, 0 above it
///
/// A right operand of wgmma in shared memory. C_i B_j comes as fragments. Blocks
/// of 16 x 16 above the diagonal are zeroed once and never written. Of the other ten, every warp
/// has one on the diagonal and one or two below it. All warps run the same code: with a copy of it
/// for every warp's blocks the loops of this kernel outgrew the instruction cache, at twice the
/// time.
template <Flow flow>
class GateMaker {
 public:
  __device__ __forceinline__ GateMaker(const Scan& scan, const Shared& shared, int head, int warp,
                                       int lane)
      : scan_(scan), shared_(shared), lane_(lane), has_third_(warp < 2), D_(scan.args.D(head)) {
    place(0, warp, warp);
    place(1, warp < 2 ? warp + 1 : 3, warp < 2 ? warp : warp - 1);  // (1, 0) (2, 1) (3, 1) (3, 2)
    place(2, warp + 2, 0);                                          // (2, 0) (3, 0)
  }

  __device__ __forceinline__ void run() {
    for (Walk<flow> walk(scan_); !walk.done(); walk.advance()) {
      wait(shared_.token_full(token_.slot), token_.parity);
      if (walk.outputs) {
        make();
      } else {
        arrive_with_warp(shared_.token_empty(token_.slot));
      }
      token_.advance();
    }
  }

 private:
  static constexpr int most_blocks = 3;
  struct Place {
    std::uint32_t fragment;       // of C_i B_j
    std::uint32_t rows, columns;  // lambda of the lane's rows, `shifted` of its columns
    std::uint32_t tile;           // stmatrix address of the lane in M's tile
  };

  __device__ __forceinline__ void place(int k, int row, int column) {
    const std::uint32_t piece =
        static_cast<std::uint32_t>((2 * column + (lane_ >> 4)) ^ (lane_ & 7));
    places_[k] = {static_cast<std::uint32_t>(fragment_block(row, column) * 512 + lane_ * 16),
                  static_cast<std::uint32_t>(Decays::lambda + row * 64 + lane_ / 4 * 4),
                  static_cast<std::uint32_t>(Decays::shifted + lane_ % 4 * 64 + column * 16),
                  static_cast<std::uint32_t>(row * 2048 + (lane_ & 15) * 128) + (piece << 4)};
  }

  __device__ __forceinline__ void make() {
    const std::uint32_t decays = shared_.decays(token_.slot);
    const std::uint32_t products = shared_.products(product_.slot);
    std::uint32_t gate[most_blocks][4];
    wait(shared_.products_full(product_.slot), product_.parity);
    make_block<true>(gate[0], products, decays, places_[0]);
    make_block<false>(gate[1], products, decays, places_[1]);
    if (has_third_) make_block<false>(gate[2], products, decays, places_[2]);
    arrive_with_warp(shared_.token_empty(token_.slot));
    arrive_with_warp(shared_.products_empty(product_.slot));
    product_.advance();
    wait(shared_.gate_empty(gate_.slot), gate_.parity ^ 1);
    const std::uint32_t tile = shared_.gate(gate_.slot);
#pragma unroll
    for (int k = 0; k < most_blocks; ++k) {
      if (k == 2 && !has_third_) break;
      store_fragments(tile + places_[k].tile, gate[k][0], gate[k][1], gate[k][2], gate[k][3]);
    }
    __syncwarp();
    if (lane_ == 0) arrive(shared_.gate_full(gate_.slot));  // the state's warpgroup fences
    gate_.advance();
  }

  template <bool diagonal>
  __device__ __forceinline__ void make_block(std::uint32_t (&gate)[4], std::uint32_t products,
                                             std::uint32_t decays, const Place& place) const {
    const uint4 v = load_shared_16(products + place.fragment);
    const float upper = load_shared_float(decays + place.rows);
    const float lower = load_shared_float(decays + place.rows + 32);
    const float4 s = load_shared_float4(decays + place.columns);
    const float a[8] = {
        low_bf16(v.x) * fast_exp2(upper - s.x), high_bf16(v.x) * fast_exp2(upper - s.y),
        low_bf16(v.y) * fast_exp2(lower - s.x), high_bf16(v.y) * fast_exp2(lower - s.y),
        low_bf16(v.z) * fast_exp2(upper - s.z), high_bf16(v.z) * fast_exp2(upper - s.w),
        low_bf16(v.w) * fast_exp2(lower - s.z), high_bf16(v.w) * fast_exp2(lower - s.w)};
    if constexpr (!diagonal) {
#pragma unroll
      for (int e = 0; e < 4; ++e) gate[e] = pack_bf16(a[2 * e], a[2 * e + 1]);
    } else {
      const int i = lane_ / 4, j = lane_ % 4 * 2;
      gate[0] = on_diagonal(a[0], a[1], i, j);
      gate[1] = pack_bf16(a[2], a[3]);  // rows 8 to 15, columns 0 to 7
      gate[2] = 0;                      // the reverse
      gate[3] = on_diagonal(a[6], a[7], i, j);
    }
  }

  /// The pair of columns first, first + 1 of a diagonal block in row `row`, both counted from its
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

  const Scan& scan_;
  const Shared& shared_;
  int lane_;
  bool has_third_;
  float D_;
  Place places_[most_blocks];
  Cursor<token_slots> token_;
  Cursor<product_slots> product_;
  Cursor<gate_slots> gate_;
};

}  // namespace chunkstate::cuda::hopper_scan
