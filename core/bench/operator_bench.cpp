// SPDX-License-Identifier: Apache-2.0
#include "core/bench/operator_bench.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "core/bench/bench_tools.hpp"
#include "core/errors.hpp"
#include "core/sequence_state.hpp"
#include "core/tensor.hpp"
#include "kernels/base/bf16_tiles.hpp"
#include "kernels/base/memory.hpp"
#include "kernels/base/memory_probe.hpp"
#include "kernels/base/tile_probe.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/ssd/cost.hpp"
#include "kernels/ssd/ssd.hpp"

namespace chunkstate {
namespace {

View<const float, 1> floats(const Tensor& tensor) {
  return {reinterpret_cast<const float*>(tensor.data()), {tensor.extents()[0]}};
}

// One set of inputs and outputs of the scan. Values have a trained model's scale: steps of 0.001 to
// 0.1 and decay rates of 1 to 16, so that states neither die at once nor live for ever.
struct SsdBuffers {
  Tensor x, dt, B, C, A, dt_bias, D, y;

  SsdBuffers(const Executor& exec, const SsdBenchCase& c, unsigned seed) {
    std::mt19937 random(seed);
    x = random_tensor(exec, c.dtype, {c.tokens, c.heads, c.head_dim}, random, -1, 1);
    dt = random_tensor(exec, c.dtype, {c.tokens, c.heads}, random, -1, 1);
    B = random_tensor(exec, c.dtype, {c.tokens, c.groups, c.state_dim}, random, -1, 1);
    C = random_tensor(exec, c.dtype, {c.tokens, c.groups, c.state_dim}, random, -1, 1);
    A = random_tensor(exec, DType::fp32, {c.heads}, random, -16, -1);
    dt_bias = random_tensor(exec, DType::fp32, {c.heads}, random, -7, -2);
    D = random_tensor(exec, DType::fp32, {c.heads}, random, 0.5F, 1.5F);
    y = Tensor(exec.backend, c.dtype, {c.tokens, c.heads, c.head_dim});
  }

  SsdArgs args(const SsdBenchCase& c) {
    SsdArgs result;
    result.x = x.view<3>();
    result.dt = dt.view<2>();
    result.B = B.view<3>();
    result.C = C.view<3>();
    result.A = floats(A);
    result.dt_bias = floats(dt_bias);
    result.D = floats(D);
    result.y = y.view<3>();
    result.chunk_size = c.chunk_size;
    result.lookback = c.lookback;
    return result;
  }
};

const SsdVariant& variant_named(const Executor& exec, const std::string& name) {
  const SsdVariant* variant = find_ssd_variant(name);
  if (variant == nullptr) throw UsageError("unknown SSD variant '" + name + "'");
  if ((exec.backend == Backend::cpu && variant->cpu == nullptr) ||
      (exec.backend == Backend::cuda && variant->cuda == nullptr)) {
    throw UsageError("variant '" + name + "' has no " + std::string(name_of(exec.backend)) +
                     " implementation in this build");
  }
  return *variant;
}

// The definition in double takes minutes at 128 heads; two heads of each group see the same code.
double error_against_reference(const Executor& exec, const SsdVariant& variant,
                               SsdBenchCase shape) {
  shape.heads = std::min(shape.heads, 2 * shape.groups);
  SsdBuffers tested(exec, shape, 1);
  const std::size_t bytes = tested.y.bytes();
  const std::vector<std::uint8_t> poison(bytes, 0xFF);  // NaN in every storage type
  copy_to_backend(exec, tested.y.data(), poison.data(), bytes);
  ssd_scan(exec, variant, tested.args(shape));
  Tensor actual(Backend::cpu, shape.dtype,
                {static_cast<std::int64_t>(bytes / bytes_of(shape.dtype))});
  copy_to_host(exec, actual.data(), tested.y.data(), bytes);

  const Executor host{Backend::reference};
  SsdBuffers expected(host, shape, 1);
  Tensor y(Backend::reference, DType::fp32, {shape.tokens, shape.heads, shape.head_dim});
  SsdArgs args = expected.args(shape);
  args.y = y.view<3>();
  ssd_scan(host, variant, args);

  const ConstAnyView<1> flat(y.data(), DType::fp32, {actual.extents()[0]});
  return relative_error(actual.view<1>(), flat);
}

}  // namespace

double Timing::median() const {
  if (seconds.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::vector<double> sorted = seconds;
  std::sort(sorted.begin(), sorted.end());
  const std::size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : 0.5 * (sorted[middle - 1] + sorted[middle]);
}

double Timing::fastest() const { return *std::min_element(seconds.begin(), seconds.end()); }
double Timing::slowest() const { return *std::max_element(seconds.begin(), seconds.end()); }

MachinePeaks measure_peaks(const Executor& exec, DType dtype) {
  MachinePeaks peaks;
  std::mt19937 random(7);
  {
    constexpr std::int64_t tokens = 1024;
    constexpr std::int64_t features = 4096;
    const Tensor x = random_tensor(exec, dtype, {tokens, features}, random, -1, 1);
    const Tensor weight = random_tensor(exec, dtype, {features, features}, random, -1, 1);
    Tensor y(exec.backend, dtype, {tokens, features});
    const double seconds = fastest_of(exec, 3, [&] {
      linear(exec, {x.view<2>(), weight.view<2>(), {}, y.view<2>()});
    });
    peaks.gemm_flops = 2.0 * static_cast<double>(tokens * features * features) / seconds;
  }
  constexpr std::int64_t rows = 1024;
  constexpr std::int64_t row_bytes = 512 * 1024;  // 512 MiB in all: beyond every cache
  Tensor from(exec.backend, DType::fp32, {rows, row_bytes / 4});
  Tensor to(exec.backend, DType::fp32, {rows, row_bytes / 4});
  fill_zero(exec, from.data(), from.bytes());
  fill_zero(exec, to.data(), to.bytes());
  const double bytes = static_cast<double>(from.bytes());
  peaks.copy_bytes = 2.0 * bytes / fastest_of(exec, 5, [&] {
                       probe_copy(exec, to.data(), from.data(), from.bytes());
                     });
  if (exec.backend == Backend::cuda) return peaks;  // probe_read is for host memory
  peaks.read_bytes =
      bytes / fastest_of(exec, 5, [&] { probe_read(exec, from.data(), from.bytes()); });
  peaks.ceiling_flops = measure_tile_loop(exec, dtype, 5);
  return peaks;
}

double measure_tile_loop(const Executor& exec, DType dtype, int repeats) {
  if (exec.backend != Backend::cpu || dtype != DType::bf16 || !has_bf16_tiles()) return 0;
  double best = 0;
  for (const bool b_streams : {false, true}) {
    double flops = 0;
    const double seconds = fastest_of(exec, repeats, [&] { flops = probe_tiles(exec, b_streams); });
    best = std::max(best, flops / seconds);
  }
  return best;
}

MachinePeaks best_of(const MachinePeaks& a, const MachinePeaks& b) {
  return {std::max(a.gemm_flops, b.gemm_flops), std::max(a.copy_bytes, b.copy_bytes),
          std::max(a.read_bytes, b.read_bytes), std::max(a.ceiling_flops, b.ceiling_flops)};
}

std::vector<SsdBenchResult> bench_ssd(const Executor& exec,
                                      const std::vector<std::string>& variants,
                                      const SsdBenchCase& shape, int repeats) {
  // Enough sets of buffers that none is still in a cache when its turn comes again.
  constexpr double cache_bytes = 128e6;
  const double set_bytes = static_cast<double>(shape.tokens) *
                           static_cast<double>(2 * shape.heads * shape.head_dim) *
                           static_cast<double>(bytes_of(shape.dtype));
  const auto sets = static_cast<std::size_t>(std::clamp(cache_bytes / set_bytes + 1.0, 1.0, 8.0));
  std::vector<SsdBuffers> buffers;
  for (std::size_t s = 0; s < sets; ++s) {
    buffers.emplace_back(exec, shape, static_cast<unsigned>(100 + s));
  }

  std::vector<SsdBenchResult> results;
  for (const std::string& name : variants) {
    const SsdVariant& variant = variant_named(exec, name);
    SsdBenchResult result;
    result.variant = name;
    const SsdCost cost = ssd_cost(variant, buffers[0].args(shape));
    result.flops = cost.flops;
    result.bytes = cost.bytes;
    result.relative_error = error_against_reference(exec, variant, shape);
    ssd_scan(exec, variant, buffers[0].args(shape));  // warm-up
    results.push_back(std::move(result));
  }
  std::size_t turn = 0;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    for (SsdBenchResult& result : results) {
      const SsdVariant& variant = variant_named(exec, result.variant);
      const SsdArgs args = buffers[turn++ % sets].args(shape);
      result.timing.seconds.push_back(time_once(exec, [&] { ssd_scan(exec, variant, args); }));
    }
  }
  return results;
}

}  // namespace chunkstate
