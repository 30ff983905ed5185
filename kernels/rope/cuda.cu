// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/elements.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/rope/rope.hpp"

namespace chunkstate::cuda {
namespace {

constexpr int threads = 256;

// One thread per (token, head, pair).
__global__ void __launch_bounds__(threads) rope_kernel(RopeArgs args, std::int64_t count) {
  overlap_kernels();
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (index >= count) return;
  const std::int64_t pairs = args.inverse_frequency.extent[0];
  const std::int64_t heads = args.x.extent[1];
  const std::int64_t pair = index % pairs;
  const std::int64_t head = index / pairs % heads;
  const std::int64_t token = index / pairs / heads;

  // The precise functions: an angle of 10^5 radians needs more than the fast ones' range reduction.
  float sine, cosine;
  sincosf(static_cast<float>(args.positions(token)) * args.inverse_frequency(pair), &sine, &cosine);

  std::byte* first = args.x.at(token, head, pair);
  std::byte* second = args.x.at(token, head, pair + pairs);
  const float a = load_element(first, args.x.dtype);
  const float b = load_element(second, args.x.dtype);
  store_element(first, args.x.dtype, a * cosine - b * sine);
  store_element(second, args.x.dtype, b * cosine + a * sine);
}

}  // namespace

void rope(const RopeArgs& args, CUstream_st* stream) {
  const std::int64_t count = args.x.extent[0] * args.x.extent[1] * args.inverse_frequency.extent[0];
  if (count == 0) return;
  launch_overlapping("rope launch", rope_kernel, static_cast<unsigned>(ceil_div(count, threads)),
                     threads, stream, args, count);
}

}  // namespace chunkstate::cuda
