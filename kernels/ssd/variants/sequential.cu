// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "kernels/base/check.hpp"
#include "kernels/base/cuda_check.cuh"
#include "kernels/base/elements.cuh"
#include "kernels/ssd/scan_common.cuh"
#include "kernels/ssd/variants_cuda.hpp"

namespace chunkstate::cuda {
namespace {

constexpr int warps = 4;
constexpr std::int64_t max_state_dim = 512;

template <int per_lane>
struct Token {
  float delta, x;
  float B[per_lane], C[per_lane];

  __device__ __forceinline__ void load(const SsdArgs& args, std::int64_t t, std::int64_t head,
                                       std::int64_t group, std::int64_t p, int lane) {
    delta = step_size(args, t, head);
    x = load_element(args.x.at(t, head, p), args.x.dtype);
#pragma unroll
    for (int k = 0; k < per_lane; ++k) {
      const std::int64_t n = lane + k * warp_size;
      const bool inside = n < args.B.extent[2];
      B[k] = inside ? load_element(args.B.at(t, group, n), args.B.dtype) : 0.0F;
      C[k] = inside ? load_element(args.C.at(t, group, n), args.C.dtype) : 0.0F;
    }
  }
};

// One warp per row of the state, which stays in registers from the first token to the last.
template <int per_lane>
__global__ void __launch_bounds__(warps* warp_size)
    sequential_kernel(SsdArgs args, std::int64_t rows) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * warps + threadIdx.x / warp_size;
  if (row >= rows) return;
  const auto [tokens, heads, head_dim] = args.x.extent;
  const std::int64_t state_dim = args.B.extent[2];
  const std::int64_t head = row / head_dim;
  const std::int64_t p = row % head_dim;
  const std::int64_t group = head / (heads / args.B.extent[1]);
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const float A = args.A(head);
  const float D = args.D(head);

  float state[per_lane] = {};
  if (args.state.data != nullptr) {
#pragma unroll
    for (int k = 0; k < per_lane; ++k) {
      const std::int64_t n = lane + k * warp_size;
      if (n < state_dim) state[k] = load_element(args.state.at(0, head, p, n), args.state.dtype);
    }
  }
  Token<per_lane> next;
  next.load(args, 0, head, group, p, lane);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const Token<per_lane> token = next;
    next.load(args, min(t + 1, tokens - 1), head, group, p, lane);  // on its way during this token
    const float decay = expf(token.delta * A);
    float y = 0.0F;
#pragma unroll
    for (int k = 0; k < per_lane; ++k) {
      state[k] = decay * state[k] + token.delta * token.x * token.B[k];
      y += state[k] * token.C[k];
    }
    y = warp_sum(y);
    if (lane == 0) store_element(args.y.at(t, head, p), args.y.dtype, y + D * token.x);
  }
  if (args.state.data != nullptr) {
#pragma unroll
    for (int k = 0; k < per_lane; ++k) {
      const std::int64_t n = lane + k * warp_size;
      if (n < state_dim) store_element(args.state.at(0, head, p, n), args.state.dtype, state[k]);
    }
  }
}

template <int per_lane>
void launch(const SsdArgs& args, CUstream_st* stream) {
  const std::int64_t rows = args.x.extent[1] * args.x.extent[2];
  sequential_kernel<per_lane>
      <<<static_cast<unsigned>(ceil_div(rows, warps)), warps * warp_size, 0, stream>>>(args, rows);
  check_cuda(cudaGetLastError(), "ssd_scan sequential launch");
}

}  // namespace

void ssd_sequential(const SsdArgs& args, CUstream_st* stream) {
  const auto [tokens, heads, head_dim] = args.x.extent;
  const std::int64_t state_dim = args.B.extent[2];
  if (tokens == 0 || heads == 0 || head_dim == 0) return;
  if (state_dim > max_state_dim) {
    throw ShapeError("ssd_scan: state_dim is " + std::to_string(state_dim) +
                     ", variant sequential takes at most " + std::to_string(max_state_dim) +
                     " on the cuda backend");
  }
  if (state_dim <= 64) return launch<2>(args, stream);
  if (state_dim <= 128) return launch<4>(args, stream);
  if (state_dim <= 256) return launch<8>(args, stream);
  launch<16>(args, stream);
}

}  // namespace chunkstate::cuda
