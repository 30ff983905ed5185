// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/variants/hopper_layout.cuh"

// The role of the Hopper scan that makes M, one warpgroup.
namespace chunkstate::cuda::hopper_scan {

/// Per step, for tokens i and j:
///
///   M_ij = C_i B_j 2^(lambda_i - lambda_j) delta_j for j < i, plus D on the diagonal, 0 above it
///
/// A right operand of wgmma in shared memory. C_i B_j is fetched two steps ahead, as fragments. Blocks
/// of 16 x 16 above the diagonal are zeroed once and never written. Of the other ten, every warp has
/// one on the diagonal and one or two below it. All warps run the same code: with a copy of it for
/// every warp's blocks the loops of this kernel outgrew the instruction cache, at twice the time.
template <Flow flow>
class GateMaker {
 public:
  __device__ __forceinline__ GateMaker(const Scan& scan, const Shared& shared, int head, int group,
                                       int warp, int lane)
      : scan_(scan), shared_(shared), lane_(lane), has_third_(warp < 2), D_(scan.args.D(head)) {
    products_ = scan.products + static_cast<std::int64_t>(group) * (fragment_bytes / 16) + lane;
    pitch_ = scan.args.B.extent[1] * (fragment_bytes / 16);
    place(0, warp, warp);
    place(1, warp < 2 ? warp + 1 : 3, warp < 2 ? warp : warp - 1);  // (1, 0) (2, 1) (3, 1) (3, 2)
    place(2, warp + 2, 0);                                          // (2, 0) (3, 0)
  }

  __device__ __forceinline__ void run() {
    Fragments even, odd;
    fetch(even, 0);
    fetch(odd, 1);
    Walk<flow> walk(scan_);
    for (int step = 0; step < scan_.steps; step += 2) {
      skip_end_state(walk);
      make(even);
      walk.advance();
      fetch(even, step + 2);
      if (step + 1 >= scan_.steps) break;
      skip_end_state(walk);
      make(odd);
      walk.advance();
      fetch(odd, step + 3);
    }
  }

 private:
  static constexpr int most_blocks = 3;
  struct Fragments {
    uint4 block[most_blocks];
  };
  struct Place {
    int fragment;                     // of C_i B_j
    std::uint32_t rows, columns;      // lambda of the lane's rows, `shifted` of its columns
    std::uint32_t tile;               // stmatrix address of the lane in M's tile
  };

  __device__ __forceinline__ void place(int k, int row, int column) {
    const std::uint32_t piece = static_cast<std::uint32_t>((2 * column + (lane_ >> 4)) ^ (lane_ & 7));
    places_[k] = {fragment_block(row, column) * warp_size,
                  static_cast<std::uint32_t>(Decays::lambda + row * 64 + lane_ / 4 * 4),
                  static_cast<std::uint32_t>(Decays::shifted + lane_ % 4 * 64 + column * 16),
                  static_cast<std::uint32_t>(row * 2048 + (lane_ & 15) * 128) + (piece << 4)};
  }

  __device__ __forceinline__ void fetch(Fragments& fragments, int step) const {
    const uint4* const source = products_ + step * pitch_;
#pragma unroll
    for (int k = 0; k < most_blocks; ++k) {
      fragments.block[k] = make_uint4(0, 0, 0, 0);
      if (step < scan_.blocks && (k < 2 || has_third_)) {
        fragments.block[k] = __ldcg(source + places_[k].fragment);
      }
    }
  }

  /// Visits that make no y need no M.
  __device__ __forceinline__ void skip_end_state(Walk<flow>& walk) {
    if constexpr (flow == Flow::twice) {
      for (; !walk.outputs; walk.advance()) {
        wait(shared_.token_full(token_.slot), token_.parity);
        arrive_with_warp(shared_.token_empty(token_.slot));
        token_.advance();
      }
    }
  }

  __device__ __forceinline__ void make(const Fragments& fragments) {
    wait(shared_.token_full(token_.slot), token_.parity);
    const std::uint32_t decays = shared_.decays(token_.slot);
    std::uint32_t gate[most_blocks][4];
    make_block<true>(gate[0], fragments.block[0], decays, places_[0]);
    make_block<false>(gate[1], fragments.block[1], decays, places_[1]);
    if (has_third_) make_block<false>(gate[2], fragments.block[2], decays, places_[2]);
    arrive_with_warp(shared_.token_empty(token_.slot));
    token_.advance();
    wait(shared_.gate_empty(gate_.slot), gate_.parity ^ 1);
    const std::uint32_t tile = shared_.gate(gate_.slot);
#pragma unroll
    for (int k = 0; k < most_blocks; ++k) {
      if (k == 2 && !has_third_) break;
      store_fragments(tile + places_[k].tile, gate[k][0], gate[k][1], gate[k][2], gate[k][3]);
    }
    fence_async();
    __syncwarp();
    if (lane_ == 0) arrive(shared_.gate_full(gate_.slot));
    gate_.advance();
  }

  template <bool diagonal>
  __device__ __forceinline__ void make_block(std::uint32_t (&gate)[4], const uint4& v,
                                             std::uint32_t decays, const Place& place) const {
    const float upper = load_shared_float(decays + place.rows);
    const float lower = load_shared_float(decays + place.rows + 32);
    const float4 s = load_shared_float4(decays + place.columns);
    const float a[8] = {low_bf16(v.x) * fast_exp2(upper - s.x),
                        high_bf16(v.x) * fast_exp2(upper - s.y),
                        low_bf16(v.y) * fast_exp2(lower - s.x),
                        high_bf16(v.y) * fast_exp2(lower - s.y),
                        low_bf16(v.z) * fast_exp2(upper - s.z),
                        high_bf16(v.z) * fast_exp2(upper - s.w),
                        low_bf16(v.w) * fast_exp2(lower - s.z),
                        high_bf16(v.w) * fast_exp2(lower - s.w)};
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
  const uint4* products_;
  std::int64_t pitch_;
  int lane_;
  bool has_third_;
  float D_;
  Place places_[most_blocks];
  Cursor<token_slots> token_;
  Cursor<gate_slots> gate_;
};

}  // namespace chunkstate::cuda::hopper_scan
