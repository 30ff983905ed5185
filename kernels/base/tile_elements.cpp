// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/tile_elements.hpp"

#include <algorithm>

#include "kernels/base/avx512_math.hpp"

#if defined(__x86_64__)
// GCC 12 finds fault with its own intrinsics, which start from an undefined vector.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace chunkstate {

#if defined(__x86_64__)
namespace {

constexpr std::int64_t tile_elements = 512;
constexpr std::int64_t line_elements = 32;

/// Where 32 elements of each of two rows go in the two lines of their pairs.
struct alignas(64) Interleaving {
  std::uint16_t low[32];
  std::uint16_t high[32];
};
constexpr Interleaving make_interleaving() {
  Interleaving i{};
  for (int k = 0; k < 32; ++k) {
    const int from = k / 2 + 32 * (k % 2);  // 32 and more: of the second row
    i.low[k] = static_cast<std::uint16_t>(from);
    i.high[k] = static_cast<std::uint16_t>(from + 16);
  }
  return i;
}
constexpr Interleaving interleaving = make_interleaving();

struct alignas(64) Pairing {
  std::uint16_t from[32];
};
constexpr Pairing make_pairing() {
  Pairing p{};
  for (int k = 0; k < 32; ++k) p.from[k] = static_cast<std::uint16_t>(k / 2 + 16 * (k % 2));
  return p;
}
constexpr Pairing pairing = make_pairing();

CHUNKSTATE_AVX512BF16 inline __m512i pair(__m512 first, __m512 second) {
  return _mm512_permutexvar_epi16(_mm512_load_si512(pairing.from), round_pair(first, second));
}

CHUNKSTATE_AVX512BF16 void pack_pairs_avx512(const bf16* from, std::int64_t row, std::int64_t count,
                                             std::int64_t columns, bf16* panels) {
  const __m512i low = _mm512_load_si512(interleaving.low);
  const __m512i high = _mm512_load_si512(interleaving.high);
  const std::int64_t whole = (count + tile_depth - 1) / tile_depth * tile_depth;
  for (std::int64_t c = 0; c < columns; c += panel_width, panels += panel_elements(count)) {
    const std::int64_t left = columns - c;
    const __mmask32 mask = left >= 32 ? ~__mmask32{0} : static_cast<__mmask32>((1U << left) - 1);
    for (std::int64_t k = 0; k < whole; k += 2) {
      const bf16* const at = from + k * row + c;
      const __m512i zero = _mm512_setzero_si512();
      const __m512i first = k < count ? _mm512_maskz_loadu_epi16(mask, at) : zero;
      const __m512i second = k + 1 < count ? _mm512_maskz_loadu_epi16(mask, at + row) : zero;
      bf16* const line =
          panels + k / tile_depth * 2 * tile_elements + k % tile_depth / 2 * line_elements;
      _mm512_store_si512(line, _mm512_permutex2var_epi16(first, low, second));
      _mm512_store_si512(line + tile_elements, _mm512_permutex2var_epi16(first, high, second));
    }
  }
}

CHUNKSTATE_AVX512BF16 void weigh_pairs_avx512(const bf16* panels, std::int64_t count_panels,
                                              std::int64_t depth_tiles, const float* weight,
                                              bf16* to) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xFFFF0000U));
  for (std::int64_t p = 0; p < count_panels; ++p) {
    for (std::int64_t t = 0; t < depth_tiles; ++t) {
      for (std::int64_t line = 0; line < 16; ++line) {
        const __m512 first = _mm512_set1_ps(weight[t * tile_depth + 2 * line]);
        const __m512 second = _mm512_set1_ps(weight[t * tile_depth + 2 * line + 1]);
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          const std::int64_t at = half * tile_elements + line * line_elements;
          const __m512i x = _mm512_load_si512(panels + at);
          const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
          const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(x, upper));
          _mm512_store_si512(to + at, pair(_mm512_mul_ps(even, first), _mm512_mul_ps(odd, second)));
        }
      }
      panels += 2 * tile_elements;
      to += 2 * tile_elements;
    }
  }
}

CHUNKSTATE_AVX512BF16 void pack_sums_avx512(const float* sums, bf16* tile) {
  for (int half = 0; half < 2; ++half) {
    for (int line = 0; line < 16; ++line) {
      const float* const rows = sums + (line / 8 * 2 + half) * 256 + line % 8 * 32;
      _mm512_store_si512(tile + half * tile_elements + line * line_elements,
                         pair(_mm512_load_ps(rows), _mm512_load_ps(rows + 16)));
    }
  }
}

CHUNKSTATE_AVX512BF16 void round_sums_avx512(const float* sums, bf16* tile) {
  for (int row = 0; row < 32; ++row) {
    const float* const at = sums + row / 16 * 512 + row % 16 * 16;
    _mm512_store_si512(tile + row * line_elements,
                       round_pair(_mm512_load_ps(at), _mm512_load_ps(at + 256)));
  }
}

CHUNKSTATE_AVX512BF16 void scale_sums_avx512(const float* factor, std::int64_t panels,
                                             float* sums) {
  for (std::int64_t p = 0; p < panels; ++p, sums += panel_sums) {
    for (int row = 0; row < 32; ++row) {
      float* const at = sums + row / 16 * 512 + row % 16 * 16;
      const __m512 f = _mm512_set1_ps(factor[row]);
      _mm512_store_ps(at, _mm512_mul_ps(f, _mm512_load_ps(at)));
      _mm512_store_ps(at + 256, _mm512_mul_ps(f, _mm512_load_ps(at + 256)));
    }
  }
}

CHUNKSTATE_AVX512BF16 void store_sums_avx512(const float* sums, std::int64_t rows,
                                             std::int64_t columns, const float* factor,
                                             std::byte* to, std::int64_t to_row, DType dtype) {
  const auto bytes = static_cast<std::int64_t>(bytes_of(dtype));
  for (std::int64_t i = 0; i < rows; ++i) {
    const float* const row = sums + i / 16 * 512 + i % 16 * 16;
    const __m512 f = _mm512_set1_ps(factor != nullptr ? factor[i] : 1.0F);
    for (std::int64_t c = 0; c < columns; c += 16) {
      const float* const at = row + c / 32 * panel_sums + c % 32 * 16;
      const __m512 value = _mm512_mul_ps(f, _mm512_load_ps(at));
      const std::int64_t left = std::min<std::int64_t>(columns - c, 16);
      const auto mask = static_cast<__mmask16>((1U << left) - 1);
      std::byte* const place = to + (i * to_row + c) * bytes;
      if (dtype == DType::fp32) {
        _mm512_mask_storeu_ps(place, mask, value);
      } else {
        _mm256_mask_storeu_epi16(place, mask, (__m256i)_mm512_cvtneps_pbh(value));
      }
    }
  }
}

}  // namespace

void pack_pairs(const bf16* from, std::int64_t row, std::int64_t count, std::int64_t columns,
                bf16* panels) {
  pack_pairs_avx512(from, row, count, columns, panels);
}
void weigh_pairs(const bf16* panels, std::int64_t count_panels, std::int64_t depth_tiles,
                 const float* weight, bf16* to) {
  weigh_pairs_avx512(panels, count_panels, depth_tiles, weight, to);
}
void pack_sums(const float* sums, bf16* tile) { pack_sums_avx512(sums, tile); }
void round_sums(const float* sums, bf16* tile) { round_sums_avx512(sums, tile); }
void scale_sums(const float* factor, std::int64_t panels, float* sums) {
  scale_sums_avx512(factor, panels, sums);
}
void store_sums(const float* sums, std::int64_t rows, std::int64_t columns, const float* factor,
                std::byte* to, std::int64_t to_row, DType dtype) {
  store_sums_avx512(sums, rows, columns, factor, to, to_row, dtype);
}

#else

void pack_pairs(const bf16*, std::int64_t, std::int64_t, std::int64_t, bf16*) {}
void weigh_pairs(const bf16*, std::int64_t, std::int64_t, const float*, bf16*) {}
void pack_sums(const float*, bf16*) {}
void round_sums(const float*, bf16*) {}
void scale_sums(const float*, std::int64_t, float*) {}
void store_sums(const float*, std::int64_t, std::int64_t, const float*, std::byte*, std::int64_t,
                DType) {}

#endif

}  // namespace chunkstate
