// SPDX-License-Identifier: Apache-2.0
#include "kernels/selective_scan/elementwise.hpp"

#include "kernels/base/simd.hpp"
#include "kernels/base/vector_math.hpp"

namespace chunkstate::cpu {
namespace {

CHUNKSTATE_MULTIVERSION
void add(const float* a, const float* b, std::int64_t count, float* sum) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) sum[i] = a[i] + b[i];
}

CHUNKSTATE_MULTIVERSION
void apply_softplus(std::int64_t count, float* values) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) values[i] = fast_softplus(values[i]);
}

CHUNKSTATE_MULTIVERSION
void add_product(const float* a, const float* b, std::int64_t count, float* sum) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) sum[i] += a[i] * b[i];
}

CHUNKSTATE_MULTIVERSION
void multiply_silu(const float* z, std::int64_t count, float* values) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) values[i] *= fast_silu(z[i]);
}

}  // namespace

void scan_step_sizes(const float* dt, const float* bias, bool softplus, std::int64_t channels,
                     float* delta) {
  if (bias != nullptr) {
    add(dt, bias, channels, delta);
  } else if (delta != dt) {
    for (std::int64_t d = 0; d < channels; ++d) delta[d] = dt[d];
  }
  if (softplus) apply_softplus(channels, delta);
}

void skip_and_gate(const float* x, const float* D, const float* z, std::int64_t channels,
                   float* y) {
  if (D != nullptr) add_product(D, x, channels, y);
  if (z != nullptr) multiply_silu(z, channels, y);
}

}  // namespace chunkstate::cpu
