// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/cuda_check.cuh"
#include "kernels/base/elements.cuh"
#include "kernels/synthetic/synthetic_fill.hpp"

namespace chunkstate::cuda {
namespace {

constexpr int threads = 256;

// One block per key.
__global__ void __launch_bounds__(threads) synthetic_fill_kernel(SyntheticFillArgs args) {
  const std::uint64_t key = args.keys(blockIdx.x);
  const std::int64_t begin = blockIdx.x * synthetic_block;
  const std::int64_t count = min(args.target.extent[0] - begin, synthetic_block);
  for (std::int64_t i = threadIdx.x; i < count; i += threads) {
    const std::int32_t number = synthetic_number(key, static_cast<std::uint32_t>(i));
    store_element(args.target.at(begin + i), args.target.dtype,
                  static_cast<float>(number) * args.scale);
  }
}

}  // namespace

void synthetic_fill(const SyntheticFillArgs& args, CUstream_st* stream) {
  if (args.keys.extent[0] == 0) return;
  const auto blocks = static_cast<unsigned>(args.keys.extent[0]);
  synthetic_fill_kernel<<<blocks, threads, 0, stream>>>(args);
  check_cuda(cudaGetLastError(), "synthetic_fill launch");
}

}  // namespace chunkstate::cuda
