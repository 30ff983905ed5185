// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/base/simd.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

namespace chunkstate {

/// exp(x) within 3e-6, for weights that are rounded to bf16 next. 0 below -104; NaN stays NaN.
CHUNKSTATE_AVX512BF16 inline __m512 coarse_exp(__m512 x) {
  const __m512 lowest = _mm512_set1_ps(-104.0F), largest = _mm512_set1_ps(89.0F);
  const __m512 z = _mm512_min_ps(largest, _mm512_max_ps(lowest, x));  // NaN: the second operand
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(z, _mm512_set1_ps(1.44269504088896341F)), 0);
  const __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693147180559945286F), z);
  __m512 p = _mm512_set1_ps(1.0F / 120);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 24));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F / 6));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0F));
  return _mm512_scalef_ps(p, n);
}

/// Elements as bf16: those of `low`, then those of `high`.
CHUNKSTATE_AVX512BF16 inline __m512i round_pair(__m512 low, __m512 high) {
  return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

}  // namespace chunkstate
#endif
