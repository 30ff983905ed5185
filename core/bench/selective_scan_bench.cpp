// SPDX-License-Identifier: Apache-2.0
#include "core/bench/selective_scan_bench.hpp"

#include <algorithm>
#include <cmath>
#include <random>

#include "core/bench/bench_tools.hpp"
#include "core/errors.hpp"
#include "core/tensor.hpp"
#include "kernels/base/memory.hpp"
#include "kernels/selective_scan/selective_scan.hpp"

namespace chunkstate {
namespace {

// One set of inputs and outputs, of a trained model's scale: steps of 0.001 to 0.1, decay rates of
// 1 to 16.
struct Buffers {
  Tensor x, dt, B, C, z, A, dt_bias, D, y;

  Buffers(const Executor& exec, const SelectiveScanBenchCase& c, unsigned seed) {
    std::mt19937 random(seed);
    const std::vector<std::int64_t> rows = {c.batch, c.tokens, c.channels};
    const std::vector<std::int64_t> states = {c.batch, c.tokens, c.state_dim};
    x = random_tensor(exec, c.dtype, rows, random, -1, 1);
    dt = random_tensor(exec, c.dtype, rows, random, -1, 1);
    B = random_tensor(exec, c.dtype, states, random, -1, 1);
    C = random_tensor(exec, c.dtype, states, random, -1, 1);
    z = random_tensor(exec, c.dtype, rows, random, -2, 2);
    A = random_tensor(exec, DType::fp32, {c.channels, c.state_dim}, random, -16, -1);
    dt_bias = random_tensor(exec, DType::fp32, {c.channels}, random, -7, -2);
    D = random_tensor(exec, DType::fp32, {c.channels}, random, 0.5F, 1.5F);
    y = Tensor(exec.backend, c.dtype, rows);
  }

  SelectiveScanArgs args(const SelectiveScanBenchCase& c) {
    const auto floats = [](const Tensor& tensor) {
      return View<const float, 1>(reinterpret_cast<const float*>(tensor.data()),
                                  {tensor.extents()[0]});
    };
    SelectiveScanArgs result;
    result.x = x.view<3>();
    result.dt = dt.view<3>();
    result.B = B.view<3>();
    result.C = C.view<3>();
    result.z = z.view<3>();
    result.A = {reinterpret_cast<const float*>(A.data()), {c.channels, c.state_dim}};
    result.dt_bias = floats(dt_bias);
    result.D = floats(D);
    result.y = y.view<3>();
    result.chunk_size = c.chunk_size;
    return result;
  }
};

const SelectiveScanVariant& variant_named(const Executor& exec, const std::string& name) {
  const SelectiveScanVariant* variant = find_selective_scan_variant(name);
  if (variant == nullptr) throw UsageError("unknown selective scan variant '" + name + "'");
  if (exec.backend == Backend::cuda && variant->cuda == nullptr) {
    throw UsageError("variant '" + name + "' has no cuda implementation in this build");
  }
  return *variant;
}

double bytes_moved(const SelectiveScanBenchCase& c) {
  return static_cast<double>(c.batch * c.tokens) *
         static_cast<double>(4 * c.channels + 2 * c.state_dim) *
         static_cast<double>(bytes_of(c.dtype));
}

// The definition in double is slow; a few channels of one sequence see the same code.
double error_against_reference(const Executor& exec, const SelectiveScanVariant& variant,
                               SelectiveScanBenchCase shape) {
  shape.batch = 1;
  shape.channels = std::min<std::int64_t>(shape.channels, 8);
  Buffers tested(exec, shape, 1);
  const std::size_t bytes = tested.y.bytes();
  const std::vector<std::uint8_t> poison(bytes, 0xFF);  // NaN in every storage type
  copy_to_backend(exec, tested.y.data(), poison.data(), bytes);
  selective_scan(exec, variant, tested.args(shape));
  const std::int64_t elements = shape.tokens * shape.channels;
  Tensor actual(Backend::cpu, shape.dtype, {elements});
  copy_to_host(exec, actual.data(), tested.y.data(), bytes);

  const Executor host{Backend::reference};
  Buffers expected(host, shape, 1);
  Tensor y(Backend::reference, DType::fp32, {1, shape.tokens, shape.channels});
  SelectiveScanArgs args = expected.args(shape);
  args.y = y.view<3>();
  selective_scan(host, variant, args);
  return relative_error(actual.view<1>(), ConstAnyView<1>(y.data(), DType::fp32, {elements}));
}

}  // namespace

std::vector<SelectiveScanBenchResult> bench_selective_scan(const Executor& exec,
                                                           const std::vector<std::string>& variants,
                                                           const SelectiveScanBenchCase& shape,
                                                           int repeats) {
  // Enough sets of buffers that none is still in a cache when its turn comes again.
  constexpr double cache_bytes = 128e6;
  const auto sets =
      static_cast<std::size_t>(std::clamp(cache_bytes / bytes_moved(shape) + 1.0, 1.0, 16.0));
  std::vector<Buffers> buffers;
  for (std::size_t s = 0; s < sets; ++s) {
    buffers.emplace_back(exec, shape, static_cast<unsigned>(100 + s));
  }
  std::size_t turn = 0;
  const auto run = [&](const SelectiveScanVariant& variant) {
    selective_scan(exec, variant, buffers[turn++ % sets].args(shape));
  };

  std::vector<SelectiveScanBenchResult> results;
  std::vector<int> calls;  // of a measurement
  for (const std::string& name : variants) {
    const SelectiveScanVariant& variant = variant_named(exec, name);
    SelectiveScanBenchResult result;
    result.variant = name;
    result.bytes = bytes_moved(shape);
    result.launches = variant.launches(buffers[0].args(shape));
    result.relative_error = error_against_reference(exec, variant, shape);
    run(variant);  // warm-up
    const double once = time_once(exec, [&] { run(variant); });
    calls.push_back(
        exec.backend == Backend::cuda ? static_cast<int>(std::clamp(1e-3 / once, 1.0, 64.0)) : 1);
    results.push_back(std::move(result));
  }
  for (int repeat = 0; repeat < repeats; ++repeat) {
    for (std::size_t v = 0; v < results.size(); ++v) {
      const SelectiveScanVariant& variant = variant_named(exec, results[v].variant);
      const double seconds = time_once(exec, [&] {
        for (int call = 0; call < calls[v]; ++call) run(variant);
      });
      results[v].timing.seconds.push_back(seconds / calls[v]);
    }
  }
  return results;
}

}  // namespace chunkstate
