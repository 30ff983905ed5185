// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/elements.cuh"
#include "kernels/base/memory_probe.hpp"
#include "kernels/base/workspace.cuh"

namespace chunkstate::cuda {
namespace {

constexpr int threads = 1024;
constexpr std::int64_t shared_bytes = 48 << 10;  // per block, without the opt-in
constexpr std::int64_t cache_bytes = 16 << 20;   // fits the L2 of every data-centre GPU
constexpr std::int64_t memory_bytes = std::int64_t{1} << 30;
constexpr int chains = 8;  // independent operations per thread: more than the units' latency needs
constexpr const char* register_level = "registers";
constexpr const char* shared_level = "shared memory";
constexpr const char* cache_level = "L2";
constexpr const char* memory_level = "device memory";

// Every multiply-add reads three registers.
__global__ void __launch_bounds__(threads) register_kernel(float start, int passes, float* sink) {
  float value[chains];
#pragma unroll
  for (int c = 0; c < chains; ++c) value[c] = start + static_cast<float>(c);
  for (int pass = 0; pass < passes; ++pass) {
#pragma unroll
    for (int c = 0; c < chains; ++c) value[c] = fmaf(value[c], start, value[c]);
  }
  float sum = 0.0F;
#pragma unroll
  for (int c = 0; c < chains; ++c) sum += value[c];
  if (sum == -1.0F) *sink = sum;  // never: the loop may not be dropped
}

__global__ void __launch_bounds__(threads) shared_kernel(int passes, float* sink) {
  __shared__ float4 tile[shared_bytes / sizeof(float4)];
  constexpr int vectors = shared_bytes / sizeof(float4);
  for (int i = threadIdx.x; i < vectors; i += threads)
    tile[i] = make_float4(1.0F, 2.0F, 3.0F, 4.0F);
  __syncthreads();
  float sum = 0.0F;
  for (int pass = 0; pass < passes; ++pass) {
#pragma unroll
    for (int k = 0; k < vectors / threads; ++k) {
      // The pass is part of the address, so that no read can be taken from the one before.
      const float4 v = tile[((k * threads + threadIdx.x) ^ (pass & 31)) % vectors];
      sum += v.x + v.y + v.z + v.w;
    }
  }
  if (sum == -1.0F) *sink = sum;
}

// Past L1. The blocks share out every pass.
__global__ void __launch_bounds__(threads)
    read_kernel(const uint4* data, std::int64_t vectors, std::int64_t first_stride, int passes,
                std::uint32_t* sink) {
  std::uint32_t sum = 0;
  for (int pass = 0; pass < passes; ++pass) {
    std::int64_t at = blockIdx.x * first_stride + threadIdx.x;
    const std::int64_t step = first_stride * gridDim.x;
    for (; at + 3 * step < vectors; at += 4 * step) {
      uint4 v[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) v[k] = __ldcg(data + at + k * step);
#pragma unroll
      for (int k = 0; k < 4; ++k) sum += v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
    }
    for (; at < vectors; at += step) sum += __ldcg(data + at).x;
  }
  if (sum == 0xffffffffU) *sink = sum;
}

}  // namespace

std::vector<MemoryLevel> memory_levels() {
  const std::int64_t blocks = 2 * device_limits().multiprocessors;
  return {{register_level, 0},
          {shared_level, blocks * shared_bytes},
          {cache_level, cache_bytes},
          {memory_level, memory_bytes}};
}

double probe_level(const MemoryLevel& level, const std::byte* data, CUstream_st* stream) {
  const auto blocks = static_cast<unsigned>(2 * device_limits().multiprocessors);
  const Workspace sink(4, stream);
  double bytes = 0;
  if (level.name == register_level) {
    constexpr int passes = 20'000;
    register_kernel<<<blocks, threads, 0, stream>>>(0.5F, passes, sink.as<float>());
    bytes = 3.0 * 4.0 * chains * passes * threads * blocks;
  } else if (level.name == shared_level) {
    constexpr int passes = 2'000;
    shared_kernel<<<blocks, threads, 0, stream>>>(passes, sink.as<float>());
    bytes = static_cast<double>(shared_bytes) * passes * blocks;
  } else {
    const int passes = level.name == cache_level ? 200 : 1;
    read_kernel<<<blocks, threads, 0, stream>>>(reinterpret_cast<const uint4*>(data),
                                                level.footprint / 16, threads, passes,
                                                sink.as<std::uint32_t>());
    bytes = static_cast<double>(level.footprint) * passes;
  }
  check_cuda(cudaGetLastError(), "memory probe launch");
  return bytes;
}

}  // namespace chunkstate::cuda
