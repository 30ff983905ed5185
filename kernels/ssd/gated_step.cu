// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/elements.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/ssd/gated_step.hpp"
#include "kernels/ssd/scan_common.cuh"

namespace chunkstate::cuda {
namespace {

constexpr int warps = 8;
constexpr int threads = warps * warp_size;
constexpr int vector = 4;
constexpr int rows_ahead = 8;  // rows of the state that a warp has in registers

/// What a block needs of its sequence and head.
struct Head {
  std::int64_t sequence, head, group;
  float decay, delta, D;
  std::int64_t current;  // slot that this token's chunk writes
  bool new_chunk;
};

__device__ Head head_of(const SsdStepArgs& args, bool forgets) {
  const auto [batch, slots, heads, head_dim, state_dim] = args.state.extent;
  Head h;
  h.head = blockIdx.x % heads;
  h.sequence = blockIdx.x / heads;
  h.group = h.head / (heads / args.B.extent[1]);
  const std::int64_t position = args.positions(h.sequence);
  h.current = forgets ? position / args.chunk_size % slots : 0;
  h.new_chunk = forgets && position % args.chunk_size == 0;
  h.delta = step_size(load_element(args.dt.at(h.sequence, h.head), args.dt.dtype),
                      args.dt_bias(h.head), args.dt_min, args.dt_max);
  h.decay = expf(h.delta * args.A(h.head));
  h.D = args.D(h.head);
  return h;
}

/// The gate of row p, and the square of what is stored. `sum`: C times the state, in every lane.
__device__ float gate_row(const SsdGatedStepArgs& args, const Head& h, std::int64_t p, float x,
                          float sum) {
  const AnyView<3>& y = args.step.y;
  const float z = load_element(args.z.at(h.sequence, h.head, p), args.z.dtype);
  std::byte* const address = y.at(h.sequence, h.head, p);
  store_element(address, y.dtype, (sum + h.D * x) * silu(z));
  const float stored = load_element(address, y.dtype);
  return stored * stored;
}

// One block per sequence and head, a warp per `rows_ahead` rows. `ahead`: the state is one slot of
// at most 128 columns; only the step before wrote it, so it is read while the kernels in between
// still run.
template <bool ahead>
__global__ void __launch_bounds__(threads)
    gated_step_kernel(const __grid_constant__ SsdGatedStepArgs args, bool forgets) {
  const SsdStepArgs& step = args.step;
  const auto [batch, slots, heads, head_dim, state_dim] = step.state.extent;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const std::int64_t n = lane * vector;
  float state[rows_ahead][vector] = {};
  const auto visit_rows = [&](auto visit) {
#pragma unroll
    for (int r = 0; r < rows_ahead; ++r) {
      const std::int64_t p = std::int64_t{warp} * rows_ahead + r;
      if (p < head_dim && n < state_dim) visit(r, p);
    }
  };
  let_next_kernel_start();
  if constexpr (ahead) {
    visit_rows([&](int r, std::int64_t p) {
      load_elements(step.state.at(blockIdx.x / heads, 0, blockIdx.x % heads, p, n),
                    step.state.dtype, state[r]);
    });
  }
  wait_for_previous_kernel();

  const Head h = head_of(step, forgets);
  float squares = 0.0F;
  if constexpr (ahead) {
    float b[vector] = {}, c[vector] = {}, x[rows_ahead] = {};
    if (n < state_dim) {
      load_elements(step.B.at(h.sequence, h.group, n), step.B.dtype, b);
      load_elements(step.C.at(h.sequence, h.group, n), step.C.dtype, c);
    }
    visit_rows([&](int r, std::int64_t p) {
      x[r] = load_element(step.x.at(h.sequence, h.head, p), step.x.dtype);
    });
    const float decay = h.new_chunk ? 0.0F : h.decay;
    float y[rows_ahead] = {};
    visit_rows([&](int r, std::int64_t p) {
#pragma unroll
      for (int k = 0; k < vector; ++k) {
        state[r][k] = state[r][k] * decay + h.delta * x[r] * b[k];
        y[r] += state[r][k] * c[k];
      }
      store_elements(step.state.at(h.sequence, 0, h.head, p, n), step.state.dtype, state[r]);
    });
#pragma unroll
    for (int r = 0; r < rows_ahead; ++r) {
      y[r] = warp_sum(y[r]);
      const std::int64_t p = std::int64_t{warp} * rows_ahead + r;
      if (lane == r && p < head_dim) {
        const float row_x = load_element(step.x.at(h.sequence, h.head, p), step.x.dtype);
        squares = gate_row(args, h, p, row_x, y[r]);
      }
    }
  } else {
    for (std::int64_t p = warp; p < head_dim; p += warps) {
      const float x = load_element(step.x.at(h.sequence, h.head, p), step.x.dtype);
      float y = 0.0F;
      for (std::int64_t column = lane; column < state_dim; column += warp_size) {
        const float b = load_element(step.B.at(h.sequence, h.group, column), step.B.dtype);
        const float c = load_element(step.C.at(h.sequence, h.group, column), step.C.dtype);
        for (std::int64_t slot = 0; slot < slots; ++slot) {
          std::byte* const address = step.state.at(h.sequence, slot, h.head, p, column);
          const bool written = slot == h.current;
          float value =
              written && h.new_chunk ? 0.0F : load_element(address, step.state.dtype) * h.decay;
          if (written) value += h.delta * x * b;
          y += value * c;
          store_element(address, step.state.dtype, value);
        }
      }
      y = warp_sum(y);
      if (lane == 0) squares += gate_row(args, h, p, x, y);
    }
  }
  squares = block_sum(squares);
  if (threadIdx.x == 0) args.squares(h.sequence, h.head) = squares;
}

}  // namespace

void ssd_gated_step(SsdSemantics semantics, const SsdGatedStepArgs& args, CUstream_st* stream) {
  const auto [batch, slots, heads, head_dim, state_dim] = args.step.state.extent;
  if (batch * heads == 0) return;
  const bool forgets = semantics != SsdSemantics::exact;
  const auto blocks = static_cast<unsigned>(batch * heads);
  const bool ahead = slots == 1 && state_dim <= vector * warp_size &&
                     head_dim <= warps * rows_ahead && allows_vectors<4>(args.step.state) &&
                     allows_vectors<4>(args.step.B) && allows_vectors<4>(args.step.C);
  launch_overlapping("ssd_gated_step launch",
                     ahead ? gated_step_kernel<true> : gated_step_kernel<false>, blocks, threads,
                     stream, args, forgets);
}

}  // namespace chunkstate::cuda
