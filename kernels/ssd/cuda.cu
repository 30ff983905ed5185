// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/elements.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/ssd/scan_common.cuh"
#include "kernels/ssd/ssd.hpp"

namespace chunkstate::cuda {
namespace {

constexpr int warps = 8;

// One warp per row of the state. At Bamba-9B a row is 512 bytes in fp32: one vector per lane, and
// with one row per warp a batch of 1 fills the device once.
template <int N>
__global__ void __launch_bounds__(warps* warp_size)
    ssd_step_kernel(SsdStepArgs args, bool forgets, std::int64_t rows) {
  overlap_kernels();
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * warps + threadIdx.x / warp_size;
  if (row >= rows) return;
  const auto [batch, slots, heads, head_dim, state_dim] = args.state.extent;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const std::int64_t p = row % head_dim;
  const std::int64_t head = row / head_dim % heads;
  const std::int64_t sequence = row / head_dim / heads;
  const std::int64_t group = head / (heads / args.B.extent[1]);

  const std::int64_t position = args.positions(sequence);
  const std::int64_t current = forgets ? position / args.chunk_size % slots : 0;
  const bool new_chunk = forgets && position % args.chunk_size == 0;
  const float delta = step_size(load_element(args.dt.at(sequence, head), args.dt.dtype),
                                args.dt_bias(head), args.dt_min, args.dt_max);
  const float decay = expf(delta * args.A(head));
  const float x = load_element(args.x.at(sequence, head, p), args.x.dtype);

  float y = 0.0F;
  for (std::int64_t n = lane * N; n < state_dim; n += warp_size * N) {
    float b[N], c[N];
    load_elements(args.B.at(sequence, group, n), args.B.dtype, b);
    load_elements(args.C.at(sequence, group, n), args.C.dtype, c);
    for (std::int64_t slot = 0; slot < slots; ++slot) {
      std::byte* address = args.state.at(sequence, slot, head, p, n);
      const bool written = slot == current;
      float state[N];
      load_elements(address, args.state.dtype, state);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        state[k] = written && new_chunk ? 0.0F : state[k] * decay;
        if (written) state[k] += delta * x * b[k];
        y += state[k] * c[k];
      }
      store_elements(address, args.state.dtype, state);
    }
  }
  y = warp_sum(y);
  if (lane == 0) store_element(args.y.at(sequence, head, p), args.y.dtype, y + args.D(head) * x);
}

}  // namespace

void ssd_step(SsdSemantics semantics, const SsdStepArgs& args, CUstream_st* stream) {
  const auto [batch, slots, heads, head_dim, state_dim] = args.state.extent;
  const std::int64_t rows = batch * heads * head_dim;
  if (rows == 0) return;
  const bool forgets = semantics != SsdSemantics::exact;
  const auto blocks = static_cast<unsigned>(ceil_div(rows, warps));
  if (allows_vectors<4>(args.B) && allows_vectors<4>(args.C) && allows_vectors<4>(args.state)) {
    launch_overlapping("ssd_step launch", ssd_step_kernel<4>, blocks, warps * warp_size, stream,
                       args, forgets, rows);
  } else {
    launch_overlapping("ssd_step launch", ssd_step_kernel<1>, blocks, warps * warp_size, stream,
                       args, forgets, rows);
  }
}

}  // namespace chunkstate::cuda
