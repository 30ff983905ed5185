// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/base/elements.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/sampling/greedy_step.hpp"

namespace chunkstate::cuda {
namespace {

constexpr int blocks_per_row = 32;
constexpr int threads = 512;
constexpr int ahead = 8;  // logits that a thread loads before it uses the first
constexpr int max_result_threads = 1024;
constexpr std::int32_t no_token = 0x7fffffff;

/// The largest of some logits, its first index, and the sum of exp(logit - largest). A NaN among
/// them is the largest, for good.
struct Part {
  float largest = -INFINITY;
  std::int32_t token = no_token;
  float sum = 0.0F;

  __device__ void add(const Part& other) {
    if (isnan(largest) || isnan(other.largest)) {
      largest = NAN;
      return;
    }
    const float most = fmaxf(largest, other.largest);
    if (other.largest > largest) {
      token = other.token;
    } else if (other.largest == largest) {
      token = min(token, other.token);
    }
    if (most == -INFINITY || most == INFINITY) {
      sum = 1.0F;
    } else {
      sum = sum * expf(largest - most) + other.sum * expf(other.largest - most);
    }
    largest = most;
  }
};

/// Of the logits first, first + stride, ...
__device__ Part part_of(const float (&logit)[ahead], std::int64_t first, std::int64_t stride) {
  Part part;
  bool has_nan = false;
#pragma unroll
  for (int u = 0; u < ahead; ++u) {
    has_nan = has_nan || isnan(logit[u]);
    if (logit[u] > part.largest) {
      part.largest = logit[u];
      part.token = static_cast<std::int32_t>(first + u * stride);
    }
  }
  if (part.largest == -INFINITY || part.largest == INFINITY) {
    part.sum = 1.0F;
  } else {
#pragma unroll
    for (int u = 0; u < ahead; ++u) part.sum += expf(logit[u] - part.largest);
  }
  if (has_nan) part.largest = NAN;
  return part;
}

__device__ Part warp_total(Part part) {
#pragma unroll
  for (int step = warp_size / 2; step > 0; step /= 2) {
    Part other;
    other.largest = __shfl_xor_sync(full_warp, part.largest, step);
    other.token = __shfl_xor_sync(full_warp, part.token, step);
    other.sum = __shfl_xor_sync(full_warp, part.sum, step);
    // Both partners add in the same order, so that all lanes agree bit by bit.
    if (threadIdx.x & static_cast<unsigned>(step)) {
      other.add(part);
      part = other;
    } else {
      part.add(other);
    }
  }
  return part;
}

__global__ void __launch_bounds__(threads)
    part_kernel(const __grid_constant__ GreedyStepArgs args, Part* parts) {
  overlap_kernels();
  __shared__ Part of_warp[threads / warp_size];
  const std::int64_t row = blockIdx.x / blocks_per_row;
  const std::int64_t vocab = args.logits.extent[1];
  constexpr std::int64_t stride = blocks_per_row * threads;
  Part part;
  for (std::int64_t first = blockIdx.x % blocks_per_row * threads + threadIdx.x; first < vocab;
       first += stride * ahead) {
    float logit[ahead];
#pragma unroll
    for (int u = 0; u < ahead; ++u) {
      const std::int64_t i = first + u * stride;
      logit[u] = i < vocab ? args.logits(row, i) : -INFINITY;
    }
    part.add(part_of(logit, first, stride));
  }
  part = warp_total(part);
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  if (lane == 0) of_warp[warp] = part;
  __syncthreads();
  if (warp != 0) return;
  part = warp_total(lane < threads / warp_size ? of_warp[lane] : Part{});
  if (lane != 0) return;
  parts[blockIdx.x] = part;
}

// One warp per row, and after all of them the count of steps.
__global__ void __launch_bounds__(max_result_threads)
    result_kernel(const __grid_constant__ GreedyStepArgs args, const Part* parts) {
  static_assert(blocks_per_row == warp_size);
  overlap_kernels();
  const std::uint64_t steps = args.steps(0);
  const unsigned lane = threadIdx.x % warp_size;
  for (std::int64_t row = threadIdx.x / warp_size; row < args.logits.extent[0];
       row += blockDim.x / warp_size) {
    const Part part = warp_total(parts[row * blocks_per_row + lane]);
    if (lane != 0) continue;
    const bool finite = isfinite(part.largest);
    const std::int32_t token = finite                ? part.token
                               : isnan(part.largest) ? nan_logit
                                                     : infinite_logit;
    args.tokens(row) = max(token, 0);
    ++args.positions(row);
    ++args.lengths(row);
    args.results(steps % args.results.extent[0], row) = {token, -logf(part.sum)};
  }
  __syncthreads();
  if (threadIdx.x == 0) args.steps(0) = steps + 1;
}

}  // namespace

void greedy_step(const GreedyStepArgs& args, CUstream_st* stream) {
  const auto batch = static_cast<unsigned>(args.logits.extent[0]);
  if (batch == 0) return;
  auto* const parts = reinterpret_cast<Part*>(args.partials.data);
  launch_overlapping("greedy_step launch", part_kernel, batch * blocks_per_row, threads, stream,
                     args, parts);
  launch_overlapping("greedy_step launch", result_kernel, 1,
                     std::min<unsigned>(batch * warp_size, max_result_threads), stream, args,
                     parts);
}

}  // namespace chunkstate::cuda

namespace chunkstate {

std::int64_t greedy_step_partials(std::int64_t batch) {
  return batch * cuda::blocks_per_row *
         static_cast<std::int64_t>(sizeof(cuda::Part) / sizeof(float));
}

}  // namespace chunkstate
