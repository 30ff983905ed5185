// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "kernels/base/check.hpp"
#include "kernels/base/cuda_check.cuh"
#include "kernels/base/elements.cuh"
#include "kernels/ssd/scan_common.cuh"
#include "kernels/ssd/variants_cuda.hpp"

namespace chunkstate::cuda {
namespace {

constexpr int warps = 8;
constexpr int threads = warps * warp_size;
constexpr int staged = 32;  // tokens in shared memory at a time
constexpr std::int64_t max_state_dim = 256;

/// Tokens [first, first + staged) of `view` at `second`, `pitch` floats apart (a multiple of 8).
__device__ __forceinline__ void stage(float* shared, int pitch, const ConstAnyView<3>& view,
                                      std::int64_t first, std::int64_t second, bool vectors) {
  const int columns = static_cast<int>(view.extent[2]);
  for (int index = threadIdx.x; index < staged * (pitch / 8); index += threads) {
    const int row = index / (pitch / 8), column = index % (pitch / 8) * 8;
    const std::int64_t token = min(first + row, view.extent[0] - 1);
    float value[8] = {};
    if (vectors) {
      if (column < columns) load_elements(view.at(token, second, column), view.dtype, value);
    } else {
      for (int e = 0; e < 8 && column + e < columns; ++e) {
        value[e] = load_element(view.at(token, second, column + e), view.dtype);
      }
    }
#pragma unroll
    for (int e = 0; e < 8; ++e) shared[row * pitch + column + e] = value[e];
  }
}

// One warp per row of the state, which stays in registers from the first token to the last. The
// warps of a block share a head, and so its B, C and decays.
template <int per_lane>
__global__ void __launch_bounds__(threads) sequential_kernel(SsdArgs args, bool vectors) {
  constexpr int pitch = per_lane * warp_size;
  extern __shared__ float shared_floats[];
  float* const B = shared_floats;
  float* const C = B + staged * pitch;
  __shared__ float delta[staged], decay[staged], x[staged][warps];

  const auto [tokens, heads, head_dim] = args.x.extent;
  const std::int64_t state_dim = args.B.extent[2];
  const auto slices = static_cast<unsigned>(ceil_div(head_dim, warps));
  const std::int64_t head = blockIdx.x / slices;
  const std::int64_t group = head / (heads / args.B.extent[1]);
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x % slices) * warps;
  const std::int64_t p = first_row + warp;
  const bool has_row = p < head_dim;
  const float D = args.D(head);

  float state[per_lane] = {};
  const auto visit_state = [&](auto visit) {
    if (args.state.data == nullptr || !has_row) return;
#pragma unroll
    for (int k = 0; k < per_lane; ++k) {
      const std::int64_t n = lane + k * warp_size;
      if (n < state_dim) visit(args.state.at(0, head, p, n), state[k]);
    }
  };
  visit_state([&](std::byte* at, float& value) { value = load_element(at, args.state.dtype); });

  for (std::int64_t first = 0; first < tokens; first += staged) {
    __syncthreads();
    stage(B, pitch, args.B, first, group, vectors);
    stage(C, pitch, args.C, first, group, vectors);
    const std::int64_t row_token = min(first + threadIdx.x / warps, tokens - 1);
    const std::int64_t row = min(first_row + threadIdx.x % warps, head_dim - 1);
    x[threadIdx.x / warps][threadIdx.x % warps] =
        load_element(args.x.at(row_token, head, row), args.x.dtype);
    if (threadIdx.x < staged) {
      const std::int64_t token = min(first + threadIdx.x, tokens - 1);
      delta[threadIdx.x] = step_size(args, token, head);
      decay[threadIdx.x] = expf(delta[threadIdx.x] * args.A(head));
    }
    __syncthreads();
    const int count = static_cast<int>(min(tokens - first, std::int64_t{staged}));
#pragma unroll 4
    for (int t = 0; t < count; ++t) {
      float y = 0.0F;
#pragma unroll
      for (int k = 0; k < per_lane; ++k) {
        const int n = t * pitch + lane + k * warp_size;
        state[k] = decay[t] * state[k] + delta[t] * x[t][warp] * B[n];
        y += state[k] * C[n];
      }
      y = warp_sum(y);
      if (lane == 0 && has_row) {
        store_element(args.y.at(first + t, head, p), args.y.dtype, y + D * x[t][warp]);
      }
    }
  }
  visit_state([&](std::byte* at, float& value) { store_element(at, args.state.dtype, value); });
}

template <int per_lane>
void launch(const SsdArgs& args, CUstream_st* stream) {
  constexpr int bytes = 2 * staged * per_lane * warp_size * 4;
  const auto kernel = sequential_kernel<per_lane>;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
             "ssd_scan sequential shared memory");
  const bool vectors = allows_vectors<8>(args.B) && allows_vectors<8>(args.C);
  const std::int64_t blocks = args.x.extent[1] * ceil_div(args.x.extent[2], warps);
  kernel<<<static_cast<unsigned>(blocks), threads, bytes, stream>>>(args, vectors);
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
  launch<8>(args, stream);
}

}  // namespace chunkstate::cuda
