// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/bf16_rows.hpp"

#include "kernels/base/avx512_math.hpp"

#if defined(__x86_64__)
// GCC 12 finds fault with its own intrinsics, which start from an undefined vector.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace chunkstate {

#if defined(__x86_64__)
namespace {

CHUNKSTATE_AVX512BF16 inline __mmask16 mask_of(std::int64_t left) {
  return left >= 16 ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1U << left) - 1);
}

CHUNKSTATE_AVX512BF16 inline __m512 load(const bf16* from, __mmask16 mask) {
  const __m256i bits = _mm256_maskz_loadu_epi16(mask, from);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

CHUNKSTATE_AVX512BF16 inline void store(bf16* to, __mmask16 mask, __m512 value) {
  _mm256_mask_storeu_epi16(to, mask, (__m256i)_mm512_cvtneps_pbh(value));
}

CHUNKSTATE_AVX512BF16 inline __m512 silu(__m512 x) {
  const __m512 e = coarse_exp(_mm512_sub_ps(_mm512_setzero_ps(), x));
  return _mm512_mul_ps(x, _mm512_rcp14_ps(_mm512_add_ps(e, _mm512_set1_ps(1.0F))));
}

CHUNKSTATE_AVX512BF16 void silu_mul_avx512(const bf16* gate, const bf16* up, std::int64_t count,
                                           bf16* y) {
  for (std::int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = mask_of(count - i);
    store(y + i, mask, _mm512_mul_ps(silu(load(gate + i, mask)), load(up + i, mask)));
  }
}

CHUNKSTATE_AVX512BF16 float gate_avx512(const bf16* x, const bf16* z, std::int64_t count,
                                        float* y) {
  __m512 squares = _mm512_setzero_ps();
  for (std::int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = mask_of(count - i);
    const __m512 value = _mm512_mul_ps(load(x + i, mask), silu(load(z + i, mask)));
    squares = _mm512_fmadd_ps(value, value, squares);
    _mm512_mask_storeu_ps(y + i, mask, value);
  }
  return _mm512_reduce_add_ps(squares);
}

CHUNKSTATE_AVX512BF16 void scale_avx512(const float* x, const float* weight, float scale,
                                        std::int64_t count, bf16* y) {
  const __m512 factor = _mm512_set1_ps(scale);
  for (std::int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = mask_of(count - i);
    const __m512 value = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), factor);
    store(y + i, mask, _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, weight + i), value));
  }
}

CHUNKSTATE_AVX512BF16 float square_avx512(const bf16* x, std::int64_t count, float* copy) {
  __m512 squares = _mm512_setzero_ps();
  for (std::int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = mask_of(count - i);
    const __m512 value = load(x + i, mask);
    squares = _mm512_fmadd_ps(value, value, squares);
    _mm512_mask_storeu_ps(copy + i, mask, value);
  }
  return _mm512_reduce_add_ps(squares);
}

CHUNKSTATE_AVX512BF16 void convolve_avx512(const bf16* const* rows, const float* weight,
                                           const float* bias, std::int64_t count, bf16* y) {
  for (std::int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = mask_of(count - i);
    __m512 sum = _mm512_maskz_loadu_ps(mask, bias + i);
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const __m512 w = _mm512_maskz_loadu_ps(mask, weight + k * count + i);
      sum = _mm512_fmadd_ps(w, load(rows[k] + i, mask), sum);
    }
    store(y + i, mask, silu(sum));
  }
}

}  // namespace

void silu_mul_row(const bf16* gate, const bf16* up, std::int64_t count, bf16* y) {
  silu_mul_avx512(gate, up, count, y);
}
float gate_row(const bf16* x, const bf16* z, std::int64_t count, float* y) {
  return gate_avx512(x, z, count, y);
}
void scale_row(const float* x, const float* weight, float scale, std::int64_t count, bf16* y) {
  scale_avx512(x, weight, scale, count, y);
}
float square_row(const bf16* x, std::int64_t count, float* copy) {
  return square_avx512(x, count, copy);
}
void convolve_row(const bf16* const* rows, const float* weight, const float* bias,
                  std::int64_t count, bf16* y) {
  convolve_avx512(rows, weight, bias, count, y);
}

#else

void silu_mul_row(const bf16*, const bf16*, std::int64_t, bf16*) {}
float gate_row(const bf16*, const bf16*, std::int64_t, float*) { return 0.0F; }
void scale_row(const float*, const float*, float, std::int64_t, bf16*) {}
float square_row(const bf16*, std::int64_t, float*) { return 0.0F; }
void convolve_row(const bf16* const*, const float*, const float*, std::int64_t, bf16*) {}

#endif

}  // namespace chunkstate
