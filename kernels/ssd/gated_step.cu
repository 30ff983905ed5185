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

/// What a block needs of its sequence and head. Made of what no kernel of this step writes, but dt.
struct Head {
  std::int64_t sequence, head, group;
  float A, D, dt_bias;
  std::int64_t current;  // slot that this token's chunk writes
  bool new_chunk;
  float delta = 0.0F, decay = 0.0F;

  __device__ Head(const SsdStepArgs& args, bool forgets) {
    const auto [batch, slots, heads, head_dim, state_dim] = args.state.extent;
    head = blockIdx.x % heads;
    sequence = blockIdx.x / heads;
    group = head / (heads / args.B.extent[1]);
    A = args.A(head);
    D = args.D(head);
    dt_bias = args.dt_bias(head);
    const std::int64_t position = forgets ? args.positions(sequence) : 1;
    current = forgets ? position / args.chunk_size % slots : 0;
    new_chunk = forgets && position % args.chunk_size == 0;
  }
  __device__ void read_dt(const SsdStepArgs& args) {
    delta = step_size(load_element(args.dt.at(sequence, head), args.dt.dtype), dt_bias, args.dt_min,
                      args.dt_max);
    decay = expf(delta * A);
  }
};

/// Gates row p and returns the square of what is stored. `sum`: C times the state.
__device__ float gate_row(const SsdGatedStepArgs& args, const Head& h, std::int64_t p, float x,
                          float z, float sum) {
  const AnyView<3>& y = args.step.y;
  const float value = rounded(y.dtype, (sum + h.D * x) * silu(z));
  store_element(y.at(h.sequence, h.head, p), y.dtype, value);
  return value * value;
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
  Head h(step, forgets);
  wait_for_previous_kernel();

  float squares = 0.0F;
  if constexpr (ahead) {
    float b[vector] = {}, c[vector] = {}, own_x = 0.0F, own_z = 0.0F;
    if (n < state_dim) {
      load_elements(step.B.at(h.sequence, h.group, n), step.B.dtype, b);
      load_elements(step.C.at(h.sequence, h.group, n), step.C.dtype, c);
    }
    const std::int64_t own = std::int64_t{warp} * rows_ahead + lane;  // lane r: of row r
    const bool has_own = lane < rows_ahead && own < head_dim;
    if (has_own) {
      own_x = load_element(step.x.at(h.sequence, h.head, own), step.x.dtype);
      own_z = load_element(args.z.at(h.sequence, h.head, own), args.z.dtype);
    }
    h.read_dt(step);
    const float decay = h.new_chunk ? 0.0F : h.decay;
    float own_y = 0.0F;
#pragma unroll
    for (int r = 0; r < rows_ahead; ++r) {
      const float u = h.delta * __shfl_sync(full_warp, own_x, r);
      float y = 0.0F;
#pragma unroll
      for (int k = 0; k < vector; ++k) {
        state[r][k] = state[r][k] * decay + u * b[k];
        y += state[r][k] * c[k];
      }
      y = warp_sum(y);
      if (lane == r) own_y = y;
    }
    visit_rows([&](int r, std::int64_t p) {
      store_elements(step.state.at(h.sequence, 0, h.head, p, n), step.state.dtype, state[r]);
    });
    if (has_own) squares = gate_row(args, h, own, own_x, own_z, own_y);
  } else {
    h.read_dt(step);
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
      if (lane == 0) {
        const float z = load_element(args.z.at(h.sequence, h.head, p), args.z.dtype);
        squares += gate_row(args, h, p, x, z, y);
      }
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
