// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "kernels/base/simd.hpp"

// Elementary functions without branches, calls or tables, so that a loop over them vectorises when
// inlined into a CHUNKSTATE_MULTIVERSION function. Errors are measured in tests/kernels.

namespace chunkstate {

/// exp(x) within 2 ulp, subnormal results included. Overflows to infinity, NaN stays NaN.
CHUNKSTATE_ALWAYS_INLINE float fast_exp(float x) {
  // Beyond these limits the result is 0 or infinity, and n below stays within int8.
  float z = x < -104.0F ? -104.0F : x;
  z = z > 89.0F ? 89.0F : z;
  // Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the mantissa.
  constexpr float shift = 12582912.0F;
  const float shifted = z * 1.44269504088896341F + shift;
  const std::int32_t n = std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(shift);
  const float k = shifted - shift;
  // ln 2 in two parts: k times the first is exact.
  const float r = (z - k * 0.693359375F) - k * -2.12194440e-4F;
  // Minimax polynomial of (exp(r) - 1 - r) / r^2 on |r| <= ln(2) / 2 (Cephes expf).
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const float mantissa = p * (r * r) + r + 1.0F;
  // 2^n in two factors, since n = 128 and n < -126 have no fp32 of their own.
  const std::int32_t half = n >> 1;
  const float first = std::bit_cast<float>((half + 127) << 23);
  const float second = std::bit_cast<float>((n - half + 127) << 23);
  return mantissa * first * second;
}

/// log(1 + e) for finite e >= 0, within 3 ulp also where 1 + e rounds to 1.
CHUNKSTATE_ALWAYS_INLINE float fast_log1p(float e) {
  const float u = 1.0F + e;
  // u = 2^n m with m in [sqrt(1/2), sqrt(2)).
  const std::int32_t bits = std::bit_cast<std::int32_t>(u) - 0x3F3504F3;
  const std::int32_t n = bits >> 23;
  const float m = std::bit_cast<float>((bits & 0x007FFFFF) + 0x3F3504F3);
  const float f = m - 1.0F;
  // Minimax polynomial of (log(1 + f) - f + f^2 / 2) / f^3 (Cephes logf).
  float p = 7.0376836292e-2F;
  p = p * f - 1.1514610310e-1F;
  p = p * f + 1.1676998740e-1F;
  p = p * f - 1.2420140846e-1F;
  p = p * f + 1.4249322787e-1F;
  p = p * f - 1.6668057665e-1F;
  p = p * f + 2.0000714765e-1F;
  p = p * f - 2.4999993993e-1F;
  p = p * f + 3.3333331174e-1F;
  const float k = static_cast<float>(n);
  const float lost = (e - (u - 1.0F)) / u;  // what rounding 1 + e to u took away
  const float low = k * -2.12194440e-4F + lost + (p * f * (f * f) - 0.5F * (f * f));
  return low + f + k * 0.693359375F;
}

/// log(1 + exp(v)), and v itself for v > 20.
CHUNKSTATE_ALWAYS_INLINE float fast_softplus(float v) {
  const float bounded = v > 20.0F ? 20.0F : v;
  const float curve = fast_log1p(fast_exp(bounded));
  return v > 20.0F ? v : curve;
}

/// x / (1 + exp(-x)).
CHUNKSTATE_ALWAYS_INLINE float fast_silu(float x) { return x / (1.0F + fast_exp(-x)); }

}  // namespace chunkstate
