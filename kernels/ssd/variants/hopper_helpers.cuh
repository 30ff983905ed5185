// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/scan_common.cuh"
#include "kernels/ssd/variants/hopper_layout.cuh"

// The roles of the Hopper scan around its products: copies in and out, decays, gates.
namespace chunkstate::cuda::hopper_scan {

/// One thread: X of its own head, and this block's share of B and C for the whole cluster. X of
/// step c + lead overwrites what step c - shared_slots read, as B and C of step c do: one loop
/// serves both.
template <int cluster>
__device__ __forceinline__ void copy_in(const Scan& scan, const Maps& maps, const Shared& shared,
                                        int head, int group) {
  constexpr int lead = token_slots - shared_slots;
  constexpr int rows = block / cluster;
  const std::uint32_t rank = cluster > 1 ? block_in_cluster() : 0;
  const auto all = static_cast<std::uint16_t>((1 << cluster) - 1);

  Cursor<token_slots> x;
  const auto copy_x = [&](int step) {
    if (step >= scan.steps) return;
    wait(shared.token_empty(x.slot), x.parity ^ 1);
    arrive_expecting(shared.token_full(x.slot), tile_bytes);
    load_tile(shared.x(x.slot), &maps.x, shared.token_full(x.slot), head * head_dim, step * block);
    x.advance();
  };
  const auto copy_shared = [&](std::uint32_t tile, const CUtensorMap* map, std::uint32_t full,
                               int column, int token) {
    const std::uint32_t target = tile + rank * rows * 128;
    const int row = token + static_cast<int>(rank) * rows;
    if constexpr (cluster > 1) {
      load_tile_to_blocks(target, map, full, column, row, all);
    } else {
      load_tile(target, map, full, column, row);
    }
  };
  const int column = group * state_dim;
  // What all blocks read is brought to L2 by one of them in turn, dt's rows by one each.
  const auto prefetch = [&](int step) {
    if (step >= scan.blocks) return;
    const int token = step * block;
    if (scan.prefetch_dt && blockIdx.x < block &&
        token + static_cast<int>(blockIdx.x) < scan.tokens) {
      const auto& dt = scan.args.dt;
      prefetch_bytes(dt.at(token + static_cast<int>(blockIdx.x), 0),
                     static_cast<std::uint32_t>(dt.extent[1] * bytes_of(dt.dtype)));
    }
    const auto heads_per_group = static_cast<int>(gridDim.x / scan.args.B.extent[1]);
    if (step % heads_per_group != head % heads_per_group) return;
    for (int part = 0; part < cluster; ++part) {
      const int row = token + part * rows;
      prefetch_tile(&maps.C, column, row), prefetch_tile(&maps.C, column + 64, row);
      prefetch_tile(&maps.B, column, row), prefetch_tile(&maps.B, column + 64, row);
    }
    prefetch_bytes(
        scan.products + (static_cast<std::int64_t>(group) * scan.blocks + step) * block * block,
        block * block * 2);
  };

  for (int step = 0; step < lead; ++step) copy_x(step);
  for (int step = 0; step < prefetch_distance; ++step) prefetch(step);
  Cursor<shared_slots> bc;
  for (int step = 0; step < scan.steps; ++step) {
    copy_x(step + lead);
    wait(shared.shared_empty(bc.slot), bc.parity ^ 1);
    const std::uint32_t full = shared.shared_full(bc.slot);
    arrive_expecting(full, 4 * tile_bytes);
    copy_shared(shared.C(bc.slot), &maps.C, full, column, step * block);
    copy_shared(shared.C(bc.slot) + tile_bytes, &maps.C, full, column + 64, step * block);
    copy_shared(shared.B(bc.slot), &maps.B, full, column, step * block);
    copy_shared(shared.B(bc.slot) + tile_bytes, &maps.B, full, column + 64, step * block);
    bc.advance();
    prefetch(step + prefetch_distance);
  }
}

/// One thread. The products' warpgroup arrives after its ordinary stores to the tile; the fence
/// that the copy engine needs after them stands here, where nobody waits for it: it cost that
/// warpgroup 130 to 230 cycles a step. Its stores are ordered before this thread's fence by the
/// barrier (release by their arrival, acquire by this wait), and the fence is cumulative over what
/// this thread observed.
__device__ __forceinline__ void copy_out(const Scan& scan, const Maps& maps, const Shared& shared,
                                         int head) {
  Cursor<output_slots> y;
  for (int step = 0; step < scan.steps; ++step) {
    wait(shared.output_full(y.slot), y.parity);
    fence_async();
    // A store that lies wholly outside the tensor raises an illegal instruction.
    if (step < scan.blocks)
      store_tile(&maps.y, shared.output(y.slot), head * head_dim, step * block);
    wait_store_reads<output_slots - 1>();
    y.advance();
    if (step >= output_slots - 1) arrive(shared.output_empty(y.slot));
  }
  wait_stores();
}

/// log(1 + e^v) with a small relative error also where it is tiny: it is a factor of everything.
__device__ __forceinline__ float fast_softplus(float v) {
  const float e = fast_exp2(v * log2_e);
  const float small = e * (1.0F - e * (0.5F - e * 0.33333333F));
  const float large = 0.69314718F * fast_log2(1.0F + e);
  return v > 20.0F ? v : e < 0.0078125F ? small : large;
}

/// Two warps, every second step each: a lane makes the factors of two tokens.
class DecayMaker {
 public:
  /// Two stored values, not yet converted: using them would wait for the load.
  struct Pair {
    std::uint16_t bits[2];
  };

  __device__ __forceinline__ DecayMaker(const Scan& scan, const Shared& shared, int head, int lane)
      : scan_(scan),
        shared_(shared),
        head_(head),
        lane_(lane),
        bias_(scan.args.dt_bias(head)),
        rate_(scan.args.A(head) * log2_e) {}

  __device__ __forceinline__ void run(int first_step) {
    if (first_step == 1) slot_.advance();
    Pair even = fetch(first_step), odd = fetch(first_step + 2);
    for (int step = first_step; step < scan_.steps; step += 4) {
      make(step, even);
      even = fetch(step + 4);
      if (step + 2 < scan_.steps) make(step + 2, odd);
      odd = fetch(step + 6);
    }
  }

 private:
  __device__ __forceinline__ Pair fetch(int step) const {
    Pair pair{};
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int token = step * block + 2 * lane_ + k;
      if (token < scan_.tokens) {
        pair.bits[k] = *reinterpret_cast<const std::uint16_t*>(scan_.args.dt.at(token, head_));
      }
    }
    return pair;
  }

  __device__ __forceinline__ float delta(std::uint16_t bits, int token) const {
    const float dt = __uint_as_float(static_cast<std::uint32_t>(bits) << 16);
    const float value =
        fminf(fmaxf(fast_softplus(dt + bias_), scan_.args.dt_min), scan_.args.dt_max);
    return token < scan_.tokens ? value : 0.0F;  // neither writes nor decays
  }

  __device__ __forceinline__ void make(int step, const Pair& pair) {
    const int token = step * block + 2 * lane_;
    const float delta0 = delta(pair.bits[0], token), delta1 = delta(pair.bits[1], token + 1);
    float lambda0 = delta0 * rate_;
    float lambda1 = lambda0 + delta1 * rate_;
#pragma unroll
    for (int offset = 1; offset < warp_size; offset *= 2) {
      const float before = __shfl_up_sync(full_warp, lambda1, offset);
      if (lane_ >= offset) lambda1 += before;
    }
    const float before = __shfl_up_sync(full_warp, lambda1, 1);
    const float last = __shfl_sync(full_warp, lambda1, warp_size - 1);
    if (lane_ > 0) lambda0 += before;
    const bool forgets = scan_.chunk_blocks > 0 && step < scan_.blocks &&
                         (step + scan_.first_block) % scan_.chunk_blocks == 0;
    const float2 shifted = make_float2(lambda0 - fast_log2(delta0), lambda1 - fast_log2(delta1));
    const std::uint32_t out =
        pack_bf16(fast_exp2(last - lambda0) * delta0, fast_exp2(last - lambda1) * delta1);
    const float2 in =
        forgets ? make_float2(0.0F, 0.0F) : make_float2(fast_exp2(lambda0), fast_exp2(lambda1));
    const float total = forgets ? 0.0F : fast_exp2(last);

    wait(shared_.token_empty(slot_.slot), slot_.parity ^ 1);
    const std::uint32_t decays = shared_.decays(slot_.slot);
    store_shared_float2(decays + Decays::lambda + 8 * lane_, make_float2(lambda0, lambda1));
    store_shared_float2(decays + Decays::shifted + 8 * lane_, shifted);
    store_shared_float2(decays + Decays::in + 8 * fragment_pair(lane_), in);
    store_shared_4(decays + Decays::out + 4 * fragment_pair(lane_), out);
    if (lane_ == 0) store_shared_4(decays + Decays::total, __float_as_uint(total));
    __syncwarp();
    if (lane_ == 0) arrive(shared_.token_full(slot_.slot));
    slot_.advance(), slot_.advance();
  }

  const Scan& scan_;
  const Shared& shared_;
  int head_, lane_;
  float bias_, rate_;
  Cursor<token_slots> slot_;
};

/// One warpgroup: the step's gate M_ij = C_i B_j 2^(lambda_i - lambda_j) delta_j for j < i, plus D
/// on the diagonal, in bf16 and in the swizzle that wgmma reads. Only the lower triangle is made,
/// in 8 x 8 blocks whose rows lie in 8 different bank groups: 28 whole ones in pieces of 16 bytes,
/// two per thread, and the 8 on the diagonal, which alone need a mask, in pieces of 8 bytes. C_i
/// B_j comes from L2 one step ahead; through shared memory it would cost 12 KB of its 121 KB of
/// traffic per step.
class GateMaker {
 public:
  /// This thread's pieces of a step.
  struct Pieces {
    uint4 whole[2];
    uint2 diagonal;
  };

  __device__ __forceinline__ GateMaker(const Scan& scan, const Shared& shared, int head, int group,
                                       int thread)
      : shared_(shared), lane_(thread % warp_size), D_(scan.args.D(head)), row_(thread >> 1) {
    products_ = scan.products + static_cast<std::int64_t>(group) * scan.blocks * block * block;
    blocks_ = scan.blocks;
    second_ = thread < 96;
    place(thread >> 3, thread & 7, i_[0], j_[0]);
    place(second_ ? 16 + (thread >> 3) : 0, thread & 7, i_[1], j_[1]);
    column_ = (row_ & ~7) + (thread & 1) * 4;
  }

  /// Two sets of registers in turn, each fetched again as soon as it is used up.
  __device__ __forceinline__ void run(int steps) {
    Pieces even = fetch(0), odd = fetch(1);
    for (int step = 0; step < steps; step += 2) {
      make(even);
      even = fetch(step + 2);
      make(odd);
      odd = fetch(step + 3);
    }
  }

 private:
  __device__ __forceinline__ Pieces fetch(int step) const {
    Pieces pieces{};
    if (step < blocks_) {
      const __nv_bfloat16* tile = products_ + static_cast<std::int64_t>(step) * block * block;
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        pieces.whole[k] = __ldcg(reinterpret_cast<const uint4*>(tile + i_[k] * block + j_[k]));
      }
      pieces.diagonal = __ldcg(reinterpret_cast<const uint2*>(tile + row_ * block + column_));
    }
    return pieces;
  }

  __device__ __forceinline__ void make(const Pieces& pieces) {
    wait(shared_.token_full(token_.slot), token_.parity);
    const std::uint32_t decays = shared_.decays(token_.slot);
    const uint4 whole0 = scale_8(pieces.whole[0], decays, i_[0], j_[0]);
    const uint4 whole1 = scale_8(pieces.whole[1], decays, i_[1], j_[1]);
    const float lambda = load_shared_float(decays + Decays::lambda + 4 * row_);
    const float4 s = load_shared_float4(decays + Decays::shifted + 4 * column_);
    const std::uint32_t low = pieces.diagonal.x, high = pieces.diagonal.y;
    const uint2 diagonal =
        make_uint2(pack_bf16(masked(low_bf16(low) * fast_exp2(lambda - s.x), 0),
                             masked(high_bf16(low) * fast_exp2(lambda - s.y), 1)),
                   pack_bf16(masked(low_bf16(high) * fast_exp2(lambda - s.z), 2),
                             masked(high_bf16(high) * fast_exp2(lambda - s.w), 3)));
    __syncwarp();
    if (lane_ == 0) arrive(shared_.token_empty(token_.slot));

    wait(shared_.gate_empty(gate_.slot), gate_.parity ^ 1);
    const std::uint32_t tile = shared_.gate(gate_.slot);
    store_shared_16(tile + offset(i_[0], j_[0]), whole0);
    if (second_) store_shared_16(tile + offset(i_[1], j_[1]), whole1);
    store_shared_8(tile + offset(row_, column_ & ~7) + (column_ & 4) * 2, diagonal);
    fence_async();
    __syncwarp();
    if (lane_ == 0) arrive(shared_.gate_full(gate_.slot));
    token_.advance();
    gate_.advance();
  }

  // Whole blocks (bi, bj) with bj < bi, row by row.
  __device__ static void place(int index, int row, int& i, int& j) {
    int bi = 1;
    while (bi * (bi + 1) / 2 <= index) ++bi;
    i = bi * 8 + row;
    j = (index - bi * (bi - 1) / 2) * 8;
  }
  __device__ static std::uint32_t offset(int i, int j) {
    return static_cast<std::uint32_t>(i * 128 + (((j >> 3) ^ (i & 7)) << 4));
  }
  __device__ static std::uint32_t scale_2(std::uint32_t pair, float lambda, float s0, float s1) {
    return pack_bf16(low_bf16(pair) * fast_exp2(lambda - s0),
                     high_bf16(pair) * fast_exp2(lambda - s1));
  }
  __device__ static uint4 scale_8(uint4 v, std::uint32_t decays, int i, int j) {
    const float lambda = load_shared_float(decays + Decays::lambda + 4 * i);
    const float4 a = load_shared_float4(decays + Decays::shifted + 4 * j);
    const float4 b = load_shared_float4(decays + Decays::shifted + 4 * j + 16);
    return make_uint4(scale_2(v.x, lambda, a.x, a.y), scale_2(v.y, lambda, a.z, a.w),
                      scale_2(v.z, lambda, b.x, b.y), scale_2(v.w, lambda, b.z, b.w));
  }
  __device__ float masked(float value, int k) const {
    return column_ + k < row_ ? value : column_ + k == row_ ? value + D_ : 0.0F;
  }

  const Shared& shared_;
  const __nv_bfloat16* products_;
  int blocks_, lane_;
  float D_;
  int row_, column_;  // of the piece on the diagonal
  int i_[2], j_[2];   // of the whole pieces
  bool second_;
  Cursor<token_slots> token_;
  Cursor<gate_slots> gate_;
};

}  // namespace chunkstate::cuda::hopper_scan
