// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/elements.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/ssd/gated_step.hpp"
#include "kernels/ssd/scan_common.cuh"

namespace chunkstate::cuda {
namespace {

constexpr int warps = 8;
constexpr int threads = warps * warp_size;
constexpr int rows_ahead = 8;  // rows of the state that a warp has in registers
constexpr int columns_ahead = 128;

/// What a block needs of its sequence and head. Made of what no kernel of this step writes, but dt.
struct Head {
  int sequence, head, group;
  float A, D, dt_bias;
  std::int64_t current;  // slot that this token's chunk writes
  bool new_chunk;
  float delta = 0.0F, decay = 0.0F;

  __device__ Head(const SsdStepArgs& args, bool forgets) {
    const auto heads = static_cast<int>(args.state.extent[2]);
    head = static_cast<int>(blockIdx.x) % heads;
    sequence = static_cast<int>(blockIdx.x) / heads;
    group = head / (heads / static_cast<int>(args.B.extent[1]));
    A = args.A(head);
    D = args.D(head);
    dt_bias = args.dt_bias(head);
    const std::int64_t position = forgets ? args.positions(sequence) : 1;
    current = forgets ? position / args.chunk_size % args.state.extent[1] : 0;
    new_chunk = forgets && position % args.chunk_size == 0;
  }
  __device__ void read_dt(const SsdStepArgs& args) {
    delta = step_size(load_element(args.dt.at(sequence, head), args.dt.dtype), dt_bias, args.dt_min,
                      args.dt_max);
    decay = expf(delta * A);
  }
};

// Without a gate, as ssd_step, there is neither z nor squares.
__device__ float load_z(const SsdGatedStepArgs& args, const Head& h, std::int64_t p) {
  return args.z.data != nullptr ? load_element(args.z.at(h.sequence, h.head, p), args.z.dtype)
                                : 0.0F;
}

/// Gates row p and returns the square of what is stored. `sum`: C times the state.
__device__ float finish_row(const SsdGatedStepArgs& args, const Head& h, std::int64_t p, float x,
                            float z, float sum) {
  const AnyView<3>& y = args.step.y;
  float value = sum + h.D * x;
  if (args.z.data != nullptr) value *= silu(z);
  value = rounded(y.dtype, value);
  store_element(y.at(h.sequence, h.head, p), y.dtype, value);
  return value * value;
}

__device__ void store_squares(const SsdGatedStepArgs& args, const Head& h, float squares) {
  if (args.squares.data == nullptr) return;
  squares = block_sum(squares);
  if (threadIdx.x == 0) args.squares(h.sequence, h.head) = squares;
}

// One block per sequence and head, a warp per rows_ahead rows of the state, whose slots have at most
// columns_ahead columns. A lane has `vector` columns, 16 bytes, of a row. `ahead`: no kernel between
// the step before and this one writes the state, so it is read while they still run.
template <DType state_type>
__global__ void __launch_bounds__(threads, 4)
    step_kernel(const __grid_constant__ SsdGatedStepArgs args, bool forgets, bool ahead) {
  constexpr int vector = state_type == DType::fp32 ? 4 : 8;
  constexpr int lanes_per_row = columns_ahead / vector;
  constexpr int rows_at_once = warp_size / lanes_per_row;
  constexpr int turns = rows_ahead / rows_at_once;
  const SsdStepArgs& step = args.step;
  const auto slots = static_cast<int>(step.state.extent[1]);
  const auto head_dim = static_cast<int>(step.state.extent[3]);
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int column = lane % lanes_per_row * vector;
  const bool has_column = column < step.state.extent[4];
  const int first_row = warp * rows_ahead;
  const int row_of_lane = lane / lanes_per_row;  // of the rows at once
  let_next_kernel_start();
  if (!ahead) wait_for_previous_kernel();
  Head h(step, forgets);
  const std::int64_t turn_bytes =
      rows_at_once * step.state.stride[3] * static_cast<std::int64_t>(bytes_of(state_type));
  const auto has = [&](int turn) {
    return has_column && first_row + turn * rows_at_once + row_of_lane < head_dim;
  };
  const auto rows_of = [&](int slot) {
    return step.state.at(h.sequence, slot, h.head, first_row + row_of_lane,
                         has_column ? column : 0);
  };
  uint4 raw[turns];
  const auto load = [&](const std::byte* rows) {
#pragma unroll
    for (int t = 0; t < turns; ++t) {
      raw[t] = has(t) ? *reinterpret_cast<const uint4*>(rows + t * turn_bytes) : uint4{};
    }
  };
  load(rows_of(0));
  if (ahead) wait_for_previous_kernel();

  float b[vector] = {}, c[vector] = {}, own_x = 0.0F, own_z = 0.0F;
  if (has_column) {
    load_elements(step.B.at(h.sequence, h.group, column), step.B.dtype, b);
    load_elements(step.C.at(h.sequence, h.group, column), step.C.dtype, c);
  }
  const bool has_own = lane < rows_ahead && first_row + lane < head_dim;  // lane r: row r
  if (has_own) {
    own_x = load_element(step.x.at(h.sequence, h.head, first_row + lane), step.x.dtype);
    own_z = load_z(args, h, first_row + lane);
  }
  h.read_dt(step);
  float y[turns] = {};
  for (int slot = 0; slot < slots; ++slot) {
    std::byte* const rows = rows_of(slot);
    if (slot > 0) load(rows);
    const bool written = slot == h.current;
    const float decay = written && h.new_chunk ? 0.0F : h.decay;
    const float delta = written ? h.delta : 0.0F;
#pragma unroll
    for (int t = 0; t < turns; ++t) {
      const float u = delta * __shfl_sync(full_warp, own_x, t * rows_at_once + row_of_lane);
      float state[vector];
      load_elements(reinterpret_cast<const std::byte*>(&raw[t]), state_type, state);
#pragma unroll
      for (int k = 0; k < vector; ++k) {
        state[k] = state[k] * decay + u * b[k];
        y[t] += state[k] * c[k];
      }
      if (has(t)) store_elements(rows + t * turn_bytes, state_type, state);
    }
  }
  float own_y = 0.0F;
#pragma unroll
  for (int t = 0; t < turns; ++t) {
#pragma unroll
    for (int offset = lanes_per_row / 2; offset > 0; offset /= 2) {
      y[t] += __shfl_xor_sync(full_warp, y[t], offset);
    }
#pragma unroll
    for (int r = 0; r < rows_at_once; ++r) {
      const float row_y = __shfl_sync(full_warp, y[t], r * lanes_per_row);
      if (lane == t * rows_at_once + r) own_y = row_y;
    }
  }
  float squares = 0.0F;
  if (has_own) squares = finish_row(args, h, first_row + lane, own_x, own_z, own_y);
  store_squares(args, h, squares);
}

// Any shape.
__global__ void __launch_bounds__(threads)
    any_step_kernel(const __grid_constant__ SsdGatedStepArgs args, bool forgets) {
  overlap_kernels();
  const SsdStepArgs& step = args.step;
  const auto [batch, slots, heads, head_dim, state_dim] = step.state.extent;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  Head h(step, forgets);
  h.read_dt(step);
  float squares = 0.0F;
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
    if (lane != 0) continue;
    squares += finish_row(args, h, p, x, load_z(args, h, p), y);
  }
  store_squares(args, h, squares);
}

void launch(std::string_view what, SsdSemantics semantics, const SsdGatedStepArgs& args, bool ahead,
            CUstream_st* stream) {
  const SsdStepArgs& step = args.step;
  const auto [batch, slots, heads, head_dim, state_dim] = step.state.extent;
  if (batch * heads == 0) return;
  const bool forgets = semantics != SsdSemantics::exact;
  const auto blocks = static_cast<unsigned>(batch * heads);
  if (state_dim > columns_ahead || head_dim > warps * rows_ahead || !allows_vectors<8>(step.B) ||
      !allows_vectors<8>(step.C) || !allows_vectors<8>(step.state)) {
    return launch_overlapping(what, any_step_kernel, blocks, threads, stream, args, forgets);
  }
  const auto kernel = step.state.dtype == DType::fp32   ? step_kernel<DType::fp32>
                      : step.state.dtype == DType::bf16 ? step_kernel<DType::bf16>
                                                        : step_kernel<DType::fp16>;
  launch_overlapping(what, kernel, blocks, threads, stream, args, forgets, ahead);
}

}  // namespace

void ssd_step(SsdSemantics semantics, const SsdStepArgs& args, CUstream_st* stream) {
  launch("ssd_step launch", semantics, {args, {}, {}}, false, stream);
}

void ssd_gated_step(SsdSemantics semantics, const SsdGatedStepArgs& args, CUstream_st* stream) {
  launch("ssd_gated_step launch", semantics, args, true, stream);
}

}  // namespace chunkstate::cuda
