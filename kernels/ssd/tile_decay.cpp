// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/tile_decay.hpp"

#include "kernels/base/avx512_math.hpp"
#include "kernels/base/bf16_tiles.hpp"
#include "kernels/ssd/plan.hpp"

#if defined(__x86_64__)
// GCC 12 finds fault with its own intrinsics, which start from an undefined vector.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace chunkstate::cpu {

#if defined(__x86_64__)
namespace {

// As in decay.cpp, the decay from column to row is a product of two factors that meet at a square's
// first token. Inside the square the column's factor is 1 or more: both stay in fp32's range if the
// square as a whole decays by less than this.
constexpr std::int64_t square = 16;
constexpr double most_decay = 60.0;

/// Differences are taken in double, as everywhere (decay.hpp).
CHUNKSTATE_AVX512BF16 inline __m512 differences(const double* lambda, double reference) {
  const __m512d r = _mm512_set1_pd(reference);
  const __m256 low = _mm512_cvtpd_ps(_mm512_sub_pd(_mm512_loadu_pd(lambda), r));
  const __m256 high = _mm512_cvtpd_ps(_mm512_sub_pd(_mm512_loadu_pd(lambda + 8), r));
  return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}

CHUNKSTATE_AVX512BF16 inline __m512 negated(__m512 x) {
  return _mm512_sub_ps(_mm512_setzero_ps(), x);
}

struct Square {
  const float* scores;   // of this square's rows: panels of sums
  std::int64_t outside;  // vectors of columns before the square
  const float* columns;  // their factors
  bf16* panel;
};

CHUNKSTATE_AVX512BF16 inline __m512 before(const Square& s, std::int64_t row, std::int64_t vector,
                                           __m512 factor) {
  const float* const scores = s.scores + vector / 2 * panel_sums + vector % 2 * 256 + row * 16;
  const __m512 weight = _mm512_mul_ps(factor, _mm512_load_ps(s.columns + vector * square));
  return _mm512_mul_ps(_mm512_load_ps(scores), weight);
}

/// Row `row` of the square: what lies before it, and `inside` behind that.
CHUNKSTATE_AVX512BF16 inline void store_row(const Square& s, std::int64_t row, __m512 factor,
                                            __m512 inside) {
  bf16* to = s.panel + row * tile_depth;
  std::int64_t v = 0;
  for (; v + 1 < s.outside; v += 2, to += panel_width * tile_depth) {
    _mm512_store_si512(to, round_pair(before(s, row, v, factor), before(s, row, v + 1, factor)));
  }
  const __m512i line = v < s.outside ? round_pair(before(s, row, v, factor), inside)
                                     : round_pair(inside, _mm512_setzero_ps());
  _mm512_store_si512(to, line);
}

CHUNKSTATE_AVX512BF16 void mask_square(const Square& s, const double* lambda, const float* delta,
                                       double reference, float skip) {
  alignas(64) float local[square], rows[square];
  const __m512 relative = differences(lambda, reference);
  const __m512 steps = _mm512_loadu_ps(delta);
  _mm512_store_ps(local, relative);
  _mm512_store_ps(rows, coarse_exp(relative));
  const bool factors = reference - lambda[square - 1] < most_decay;
  const __m512 columns = _mm512_mul_ps(coarse_exp(negated(relative)), steps);
  const float* const scores = s.scores + s.outside / 2 * panel_sums + s.outside % 2 * 256;
  for (std::int64_t row = 0; row < square; ++row) {
    const __m512 factor = _mm512_set1_ps(rows[row]);
    __m512 weight;
    if (factors) {
      weight = _mm512_mul_ps(factor, columns);
    } else {
      const __m512 difference = _mm512_sub_ps(_mm512_set1_ps(local[row]), relative);
      weight = _mm512_mul_ps(coarse_exp(_mm512_min_ps(difference, _mm512_setzero_ps())), steps);
    }
    const auto seen = static_cast<__mmask16>((2U << row) - 1);
    const auto own = static_cast<__mmask16>(1U << row);
    __m512 inside = _mm512_maskz_mul_ps(seen, _mm512_load_ps(scores + row * 16), weight);
    inside = _mm512_mask_add_ps(inside, own, inside, _mm512_set1_ps(skip));
    store_row(s, row, factor, inside);
  }
}

CHUNKSTATE_AVX512BF16 void masked_tiles_avx512(const float* scores, const double* lambda,
                                               const float* delta, float skip, std::int64_t band,
                                               bf16* panel) {
  alignas(64) float columns[ssd_longest_block];
  for (std::int64_t half = 0; half < 2; ++half) {
    const std::int64_t first = band * panel_width + half * square;
    const double reference = first == 0 ? 0.0 : lambda[first - 1];
    for (std::int64_t j = 0; j < first; j += square) {
      const __m512 decay = coarse_exp(negated(differences(lambda + j, reference)));
      _mm512_store_ps(columns + j, _mm512_mul_ps(decay, _mm512_loadu_ps(delta + j)));
    }
    const Square s{scores + half * 512, first / square, columns,
                   panel + half * square * tile_depth};
    mask_square(s, lambda + first, delta + first, reference, skip);
  }
}

CHUNKSTATE_AVX512BF16 void tile_factors_avx512(const double* lambda, const float* delta,
                                               std::int64_t count, float* decay, float* weight) {
  const double last = lambda[count - 1];
  for (std::int64_t i = 0; i < count; i += square) {
    _mm512_storeu_ps(decay + i, coarse_exp(differences(lambda + i, 0.0)));
    const __m512 to_end = coarse_exp(negated(differences(lambda + i, last)));
    _mm512_storeu_ps(weight + i, _mm512_mul_ps(to_end, _mm512_loadu_ps(delta + i)));
  }
}

}  // namespace

void masked_tiles(const float* scores, const double* lambda, const float* delta, float skip,
                  std::int64_t band, bf16* panel) {
  masked_tiles_avx512(scores, lambda, delta, skip, band, panel);
}
void tile_factors(const double* lambda, const float* delta, std::int64_t count, float* decay,
                  float* weight) {
  tile_factors_avx512(lambda, delta, count, decay, weight);
}

#else

void masked_tiles(const float*, const double*, const float*, float, std::int64_t, bf16*) {}
void tile_factors(const double*, const float*, std::int64_t, float*, float*) {}

#endif

}  // namespace chunkstate::cpu
