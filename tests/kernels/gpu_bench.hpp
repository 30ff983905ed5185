// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

// What kernels_cuda_bench times with: buffers of random numbers, recorded calls, a row of its
// table.
namespace chunkstate::test {

// Bamba-9B's.
inline constexpr std::int64_t heads = 128, head_dim = 64, state_dim = 128;
inline constexpr std::int64_t inner = heads * head_dim, conv_channels = inner + 2 * state_dim;

inline void require(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

inline constexpr std::int64_t rotated_bytes = 400 << 20;  // several times an H200's L2

/// Device memory that frees itself.
class Buffer {
 public:
  explicit Buffer(std::int64_t bytes) : bytes_(bytes) {
    require(cudaMalloc(&data_, static_cast<std::size_t>(bytes)));
  }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  std::int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::int64_t bytes_;
};

/// Normal bf16 numbers: zeros and constants would run at higher clocks than real data.
class RandomNumbers {
 public:
  RandomNumbers() : seed_block_(block) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<bf16> values(block / 2);
    for (bf16& value : values) value = from_float<bf16>(normal(random));
    require(cudaMemcpy(seed_block_.data(), values.data(), block, cudaMemcpyHostToDevice));
  }
  std::unique_ptr<Buffer> make(std::int64_t bytes) const {
    auto buffer = std::make_unique<Buffer>(bytes);
    for (std::int64_t at = 0; at < bytes; at += block) {
      const auto part = static_cast<std::size_t>(std::min(block, bytes - at));
      require(cudaMemcpy(buffer->data() + at, seed_block_.data(), part, cudaMemcpyDeviceToDevice));
    }
    return buffer;
  }

 private:
  static constexpr std::int64_t block = (8 << 20) + 2 * 4099;  // its period divides no row
  Buffer seed_block_;
};

inline std::unique_ptr<Buffer> upload(const std::vector<float>& values) {
  auto buffer = std::make_unique<Buffer>(static_cast<std::int64_t>(values.size() * 4));
  require(cudaMemcpy(buffer->data(), values.data(), values.size() * 4, cudaMemcpyHostToDevice));
  return buffer;
}

using Call = std::function<void(int set, const Executor& exec)>;

/// Median microseconds per call of a graph of `calls` calls.
inline double time_graph(const Call& call, int sets, int calls, int replays, int rest_us) {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cudaEvent_t begin = nullptr, end = nullptr;
  require(cudaStreamCreate(&stream));
  require(cudaEventCreate(&begin));
  require(cudaEventCreate(&end));
  const Executor exec{Backend::cuda, 1, stream};
  call(0, exec);  // what is made on first use
  require(cudaStreamSynchronize(stream));
  require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < calls; ++i) call(i % sets, exec);
  require(cudaStreamEndCapture(stream, &graph));
  require(cudaGraphInstantiate(&executable, graph, 0));
  std::vector<double> times;
  for (int i = 0; i < replays + 2; ++i) {
    if (rest_us > 0) usleep(static_cast<useconds_t>(rest_us));
    require(cudaEventRecord(begin, stream));
    require(cudaGraphLaunch(executable, stream));
    require(cudaEventRecord(end, stream));
    require(cudaStreamSynchronize(stream));
    float milliseconds = 0.0F;
    require(cudaEventElapsedTime(&milliseconds, begin, end));
    if (i >= 2) times.push_back(milliseconds * 1000.0 / calls);
  }
  require(cudaGraphExecDestroy(executable));
  require(cudaGraphDestroy(graph));
  require(cudaEventDestroy(begin));
  require(cudaEventDestroy(end));
  require(cudaStreamDestroy(stream));
  std::nth_element(times.begin(), times.begin() + static_cast<long>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

/// The best of several copies, counting bytes read and written. Not in a graph: its copies are
/// slower.
inline double copy_ceiling() {
  constexpr std::int64_t bytes = std::int64_t{2} << 30;
  const Buffer from(bytes), to(bytes);
  cudaEvent_t begin = nullptr, end = nullptr;
  require(cudaEventCreate(&begin));
  require(cudaEventCreate(&end));
  float best = 1e9F;
  for (int i = 0; i < 8; ++i) {
    require(cudaEventRecord(begin));
    require(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice));
    require(cudaEventRecord(end));
    require(cudaDeviceSynchronize());
    float milliseconds = 0.0F;
    require(cudaEventElapsedTime(&milliseconds, begin, end));
    best = std::min(best, milliseconds);
  }
  require(cudaEventDestroy(begin));
  require(cudaEventDestroy(end));
  return 2.0 * bytes / best * 1e-6;
}

class Bench {
 public:
  explicit Bench(std::string filter) : filter_(std::move(filter)), ceiling_(copy_ceiling()) {
    cudaDeviceProp device{};
    require(cudaGetDeviceProperties(&device, 0));
    std::printf("%s, copy ceiling %.0f GB/s\n", device.name, ceiling_);
    std::printf("%-26s %-22s %11s %9s %8s %7s %9s\n", "operator", "shape", "sustained", "burst",
                "GB/s", "share", "TFLOP/s");
  }

  bool wants(const std::string& name) const { return name.find(filter_) != std::string::npos; }

  /// `bytes` and `flops` are the least that the operator must move and do.
  void row(const std::string& name, const std::string& shape, double bytes, double flops, int sets,
           const Call& call) {
    const double once = time_graph(call, sets, 2, 1, 0);
    const int calls = std::clamp(static_cast<int>(30'000.0 / once), sets < 4 ? 4 : sets, 64);
    const double sustained = time_graph(call, sets, calls, once > 20'000.0 ? 3 : 11, 0);
    const double burst = time_graph(call, sets, 2, once > 20'000.0 ? 3 : 7, 30'000);
    const double rate = bytes / sustained * 1e-3;
    std::printf("%-26s %-22s %8.1f us %6.1f us %8.0f %6.1f%% %9.1f\n", name.c_str(), shape.c_str(),
                sustained, burst, rate, 100.0 * rate / ceiling_, flops / sustained * 1e-6);
    std::fflush(stdout);
  }

  RandomNumbers random;

 private:
  std::string filter_;
  double ceiling_;
};

inline int sets_for(double bytes) {
  return static_cast<int>(std::clamp(rotated_bytes / bytes + 1.0, 2.0, 64.0));
}

// cuda_bench_scans.cpp
void bench_scans(Bench& bench);

}  // namespace chunkstate::test
