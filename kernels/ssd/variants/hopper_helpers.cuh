// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/scan_common.cuh"
#include "kernels/ssd/variants/hopper_layout.cuh"

// The roles of the Hopper scan around its products: copies in and out, decays.
namespace chunkstate::cuda::hopper_scan {

/// One thread: X of its own head, C B^T, and this block's share of B and C for the whole cluster.
/// It asks the rings in turn and waits for none. C B^T comes from the kernel before this one, for
/// which the thread waits when it has started all else that it could.
template <Flow flow>
__device__ __forceinline__ void copy_in(const Scan& scan, const Maps& maps, const Shared& shared,
                                        int head, int group) {
  const int rows = block / scan.cluster;
  const int first_row = static_cast<int>(block_in_cluster()) * rows;
  const auto all = static_cast<std::uint16_t>((1 << scan.cluster) - 1);
  const auto copy_shared = [&](std::uint32_t tile, const CUtensorMap* map, std::uint32_t full,
                               int column, int token) {
    load_tile_to_blocks(tile + first_row * 128, map, full, column, token + first_row, all);
  };
  const int column = group * state_dim;
  Cursor<token_slots> x;
  Cursor<shared_slots_of(flow)> bc;
  Walk<flow> x_walk(scan), bc_walk(scan);
  const auto copy_x = [&] {
    if (x_walk.done() || !probe(shared.token_empty(x.slot), x.parity ^ 1)) return false;
    arrive_expecting(shared.token_full(x.slot), tile_bytes);
    load_tile(shared.x(x.slot), &maps.x, shared.token_full(x.slot), head * head_dim,
              x_walk.step * block);
    x.advance();
    x_walk.advance();
    return true;
  };
  const auto copy_bc = [&] {
    if (bc_walk.done() || !probe(shared.shared_empty(bc.slot), bc.parity ^ 1)) return false;
    const std::uint32_t full = shared.shared_full(bc.slot);
    const int token = bc_walk.step * block;
    arrive_expecting(full, (bc_walk.outputs ? 4 : 2) * tile_bytes);
    if (bc_walk.outputs) {
      copy_shared(shared.C(bc.slot), &maps.C, full, column, token);
      copy_shared(shared.C(bc.slot) + tile_bytes, &maps.C, full, column + 64, token);
    }
    copy_shared(shared.B(bc.slot), &maps.B, full, column, token);
    copy_shared(shared.B(bc.slot) + tile_bytes, &maps.B, full, column + 64, token);
    bc.advance();
    bc_walk.advance();
    return true;
  };
  Cursor<product_slots> product;
  int product_step = 0;
  const auto copy_product = [&] {
    if (product_step >= scan.steps) return;
    if (!probe(shared.products_empty(product.slot), product.parity ^ 1)) return;
    const std::uint32_t full = shared.products_full(product.slot);
    arrive_expecting(full, fragment_bytes);
    // Steps beyond the last block multiply zeros with any numbers.
    const int step = min(product_step, scan.blocks - 1);
    load_bytes(shared.products(product.slot),
               scan.products + (static_cast<std::int64_t>(step) * scan.args.B.extent[1] + group) *
                                   (fragment_bytes / 16),
               fragment_bytes, full);
    product.advance();
    ++product_step;
  };

  bool fills = true;
  while (fills) {
    fills = copy_bc();
    fills = copy_x() || fills;
  }
  wait_for_previous_kernel();
  while (product_step < scan.steps || !x_walk.done() || !bc_walk.done()) {
    copy_product();
    copy_x();
    copy_bc();
  }
}

/// One thread. The state's warpgroup arrives after its ordinary stores to the tile; the fence that
/// the copy engine needs after them stands here, where nobody waits for it: it cost that warpgroup
/// 130 to 230 cycles a step. Its stores are ordered before this thread's fence by the barrier
/// (release by their arrival, acquire by this wait), and the fence is cumulative over what this
/// thread observed.
__device__ __forceinline__ void copy_out(const Scan& scan, const Maps& maps, const Shared& shared,
                                         int head) {
  Cursor<output_slots> y;
  for (int step = 0; step < scan.steps; ++step) {
    wait(shared.output_full(y.slot), y.parity);
    fence_async();
    // A store that lies wholly outside the tensor raises an illegal instruction.
    if (step < scan.blocks) {
      store_tile(&maps.y, shared.output(y.slot), head * head_dim, step * block);
    }
    y.advance();
    wait_store_reads<output_slots - 1>();
    if (step >= output_slots - 1) arrive(shared.output_empty(y.slot));  // the oldest tile's
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

/// Two warps, every second visit each: a lane makes the factors of two tokens.
template <Flow flow>
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

  __device__ __forceinline__ void run(int first) {
    Walk<flow> walk(scan_);
    if (first == 1) slot_.advance(), walk.advance();
    Walk<flow> ahead = walk;
    Pair next = fetch(ahead);
    while (!walk.done()) {
      const Pair pair = next;
      next = fetch(ahead);
      make(walk, pair);
    }
  }

 private:
  /// This warp's next visit after the ones that were fetched.
  __device__ __forceinline__ Pair fetch(Walk<flow>& ahead) const {
    Pair pair{};
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const int token = ahead.step * block + 2 * lane_ + k;
      if (token < scan_.tokens) {
        pair.bits[k] = *reinterpret_cast<const std::uint16_t*>(scan_.args.dt.at(token, head_));
      }
    }
    ahead.advance();
    ahead.advance();
    return pair;
  }

  __device__ __forceinline__ float delta(std::uint16_t bits, int token) const {
    const float dt = __uint_as_float(static_cast<std::uint32_t>(bits) << 16);
    const float value =
        fminf(fmaxf(fast_softplus(dt + bias_), scan_.args.dt_min), scan_.args.dt_max);
    return token < scan_.tokens ? value : 0.0F;  // neither writes nor decays
  }

  __device__ __forceinline__ void make(Walk<flow>& walk, const Pair& pair) {
    const int token = walk.step * block + 2 * lane_;
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
    const float2 shifted = make_float2(lambda0 - fast_log2(delta0), lambda1 - fast_log2(delta1));
    const std::uint32_t out =
        pack_bf16(fast_exp2(last - lambda0) * delta0, fast_exp2(last - lambda1) * delta1);
    const float2 in = make_float2(fast_exp2(lambda0), fast_exp2(lambda1));
    const float total = fast_exp2(last);

    wait(shared_.token_empty(slot_.slot), slot_.parity ^ 1);
    const std::uint32_t decays = shared_.decays(slot_.slot);
    store_shared_float2(decays + Decays::lambda + 8 * lane_, make_float2(lambda0, lambda1));
    store_shared_float2(decays + Decays::in + in_offset(lane_), in);
    store_shared_float2(decays + Decays::shifted + shifted_offset(lane_), shifted);
    store_shared_4(decays + Decays::out + out_offset(lane_), out);
    if (lane_ == 0) store_shared_4(decays + Decays::total, __float_as_uint(total));
    arrive_with_warp(shared_.token_full(slot_.slot));
    slot_.advance(2);
    walk.advance();
    walk.advance();
  }

  const Scan& scan_;
  const Shared& shared_;
  int head_, lane_;
  float bias_, rate_;
  Cursor<token_slots> slot_;
};

}  // namespace chunkstate::cuda::hopper_scan
