// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "core/tensor.hpp"
#include "kernels/base/memory.hpp"

// What the operator benchmarks share.
namespace chunkstate {

double monotonic_bench_seconds();

/// Wall time of `body`, with everything that it launched.
template <class Body>
double time_once(const Executor& exec, Body&& body) {
  synchronize(exec);
  const double start = monotonic_bench_seconds();
  body();
  synchronize(exec);
  return monotonic_bench_seconds() - start;
}

/// The least of several runs after one that does not count.
template <class Body>
double fastest_of(const Executor& exec, int runs, Body&& body) {
  body();
  double fastest = std::numeric_limits<double>::infinity();
  for (int run = 0; run < runs; ++run) fastest = std::min(fastest, time_once(exec, body));
  return fastest;
}

/// Uniform numbers in [low, high), rounded to `dtype`; the same on every backend.
Tensor random_tensor(const Executor& exec, DType dtype, std::vector<std::int64_t> extents,
                     std::mt19937& random, float low, float high);

/// Largest |found - expected| relative to the largest |expected|, over the elements of `found`;
/// NaN where one was found. Both in host memory.
double relative_error(const ConstAnyView<1>& found, const ConstAnyView<1>& expected);

}  // namespace chunkstate
