// SPDX-License-Identifier: Apache-2.0
#include "core/bench/bench_tools.hpp"

#include <chrono>
#include <cmath>

namespace chunkstate {

double monotonic_bench_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Tensor random_tensor(const Executor& exec, DType dtype, std::vector<std::int64_t> extents,
                     std::mt19937& random, float low, float high) {
  std::int64_t elements = 1;
  for (const std::int64_t extent : extents) elements *= extent;
  Tensor host(Backend::cpu, dtype, {elements});
  const AnyView<1> view = host.view<1>();
  std::uniform_real_distribution<float> draw(low, high);
  for (std::int64_t i = 0; i < elements; ++i) view.store(draw(random), i);
  Tensor result(exec.backend, dtype, std::move(extents));
  copy_to_backend(exec, result.data(), host.data(), host.bytes());
  synchronize(exec);
  return result;
}

double relative_error(const ConstAnyView<1>& found, const ConstAnyView<1>& expected) {
  double error = 0;
  double largest = 0;
  for (std::int64_t i = 0; i < found.extent[0]; ++i) {
    const double right = expected.load(i);
    const double difference = std::abs(static_cast<double>(found.load(i)) - right);
    if (!(difference <= error)) error = difference;  // a NaN stays
    largest = std::max(largest, std::abs(right));
  }
  return error / largest;
}

}  // namespace chunkstate
