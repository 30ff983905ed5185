// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/bf16_tiles.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/base/instruction_level.hpp"
#include "kernels/base/simd.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
// GCC 12 finds fault with its own intrinsics, which start from an undefined vector.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace chunkstate {

bool has_bf16_tiles() { return instruction_level() >= InstructionLevel::avx512bf16; }

#if defined(__x86_64__)
namespace {

constexpr std::int64_t tile_elements = 512;
constexpr std::int64_t line_elements = 32;
constexpr std::int64_t line_floats = 16;

/// Elements [first, first + 32) of a row that ends at `depth`, zeros behind.
CHUNKSTATE_AVX512BF16 inline __m512i load_line(const bf16* row, std::int64_t first,
                                               std::int64_t depth) {
  if (first + line_elements <= depth) return _mm512_loadu_si512(row + first);
  const auto mask = static_cast<__mmask32>((std::uint64_t{1} << (depth - first)) - 1);
  return _mm512_maskz_loadu_epi16(mask, row + first);
}

/// Four quarters of 128 bits: k-pairs [4 q, 4 q + 4) of rows j, j + 4, j + 8 and j + 12.
CHUNKSTATE_AVX512BF16 inline __m512i gather_quarters(const bf16* rows, std::int64_t row, int q) {
  const auto quarter = [&](int lane) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + lane * 4 * row + q * 8));
  };
  __m512i v = _mm512_castsi128_si512(quarter(0));
  v = _mm512_inserti32x4(v, quarter(1), 1);
  v = _mm512_inserti32x4(v, quarter(2), 2);
  return _mm512_inserti32x4(v, quarter(3), 3);
}

/// 16 rows of 16 pairs, turned into 16 pairs of 16 columns: squares of 4 x 4 in each of the four
/// lanes, half of the work done by the loads.
CHUNKSTATE_AVX512BF16 inline void turn_tile(const bf16* rows, std::int64_t row, bf16* tile) {
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    const __m512i r0 = gather_quarters(rows, row, q);
    const __m512i r1 = gather_quarters(rows + row, row, q);
    const __m512i r2 = gather_quarters(rows + 2 * row, row, q);
    const __m512i r3 = gather_quarters(rows + 3 * row, row, q);
    const __m512i low01 = _mm512_unpacklo_epi32(r0, r1), high01 = _mm512_unpackhi_epi32(r0, r1);
    const __m512i low23 = _mm512_unpacklo_epi32(r2, r3), high23 = _mm512_unpackhi_epi32(r2, r3);
    bf16* const to = tile + q * 4 * line_elements;
    _mm512_store_si512(to, _mm512_unpacklo_epi64(low01, low23));
    _mm512_store_si512(to + line_elements, _mm512_unpackhi_epi64(low01, low23));
    _mm512_store_si512(to + 2 * line_elements, _mm512_unpacklo_epi64(high01, high23));
    _mm512_store_si512(to + 3 * line_elements, _mm512_unpackhi_epi64(high01, high23));
  }
}

CHUNKSTATE_AVX512BF16 void pack_rows_avx512(const bf16* from, std::int64_t row, std::int64_t count,
                                            std::int64_t depth, bf16* panel) {
  // Four tiles of one row at a time: the writes are four sequential streams.
  constexpr std::int64_t tiles_at_once = 4;
  const std::int64_t tiles = (depth + tile_depth - 1) / tile_depth;
  for (std::int64_t first = 0; first < tiles; first += tiles_at_once) {
    const std::int64_t last = std::min(first + tiles_at_once, tiles);
    for (std::int64_t r = 0; r < (count + 15) / 16 * 16; ++r) {
      bf16* const to = panel + r * line_elements;
      for (std::int64_t t = first; t < last; ++t) {
        const __m512i line =
            r < count ? load_line(from + r * row, t * tile_depth, depth) : _mm512_setzero_si512();
        _mm512_store_si512(to + t * 2 * tile_elements, line);
      }
    }
  }
}

CHUNKSTATE_AVX512BF16 void pack_columns_avx512(const bf16* from, std::int64_t row,
                                               std::int64_t count, std::int64_t depth,
                                               bf16* panel) {
  // Rows of 2^n bytes share one set of the first cache, which forgets a line between its quarters:
  // each is read once, whole (12 -> 33 GB/s).
  alignas(64) bf16 lines[tile_elements];
  for (std::int64_t k = 0; k < depth; k += tile_depth) {
    for (std::int64_t first = 0; first < panel_width; first += 16, panel += tile_elements) {
      const std::int64_t rows = std::clamp<std::int64_t>(count - first, 0, 16);
      const bf16* const at = from + first * row;
      for (std::int64_t r = 0; r < rows; ++r) {
        _mm512_store_si512(lines + r * line_elements, load_line(at + r * row, k, depth));
      }
      for (std::int64_t r = rows; r < 16; ++r) {
        _mm512_store_si512(lines + r * line_elements, _mm512_setzero_si512());
      }
      turn_tile(lines, line_elements, panel);
    }
  }
}

CHUNKSTATE_ALWAYS_INLINE void prefetch_ahead(const PanelProduct& p, std::int64_t tile) {
  for (std::int64_t r = 0; r < p.ahead_count; ++r) {
    __builtin_prefetch(p.ahead + r * p.ahead_row + tile * line_elements, 0, 2);
  }
  const bf16* const lines = p.ahead_lines + tile * p.ahead_lines_count * line_elements;
  for (std::int64_t i = 0; i < p.ahead_lines_count; ++i) {
    __builtin_prefetch(lines + i * line_elements, 0, 2);
  }
  const float* const sums = p.next_sums + tile * p.next_sums_lines * line_floats;
  for (std::int64_t i = 0; i < p.next_sums_lines; ++i) {
    __builtin_prefetch(sums + i * line_floats, 1, 3);
  }
}

/// Rows [first, first + 8) of the panel. 16 sums hide the latency of a dot product.
template <bool looks_ahead>
CHUNKSTATE_AVX512BF16 inline void multiply_eight(const PanelProduct& p, std::int64_t first) {
  constexpr int rows = 8;
  const bf16* a = p.a + first * line_elements;
  const bf16* b = p.b;
  float* const sums = p.sums + first / 16 * 512 + first % 16 * 16;
  __m512 sum[rows][2];
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
    sum[r][0] = p.accumulate ? _mm512_load_ps(sums + r * 16) : _mm512_setzero_ps();
    sum[r][1] = p.accumulate ? _mm512_load_ps(sums + 256 + r * 16) : _mm512_setzero_ps();
  }
  for (std::int64_t t = 0; t < p.depth_tiles; ++t) {
    if (looks_ahead) prefetch_ahead(p, t);
    for (int pair = 0; pair < 16; ++pair) {
      const auto b0 = (__m512bh)_mm512_load_si512(b + pair * line_elements);
      const auto b1 = (__m512bh)_mm512_load_si512(b + tile_elements + pair * line_elements);
#pragma GCC unroll 8
      for (int r = 0; r < rows; ++r) {
        std::int32_t two;
        std::memcpy(&two, a + r * line_elements + 2 * pair, sizeof(two));
        const auto x = (__m512bh)_mm512_set1_epi32(two);
        sum[r][0] = _mm512_dpbf16_ps(sum[r][0], x, b0);
        sum[r][1] = _mm512_dpbf16_ps(sum[r][1], x, b1);
      }
    }
    a += 2 * tile_elements;
    b += 2 * tile_elements;
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
    _mm512_store_ps(sums + r * 16, sum[r][0]);
    _mm512_store_ps(sums + 256 + r * 16, sum[r][1]);
  }
}

CHUNKSTATE_AVX512BF16 void multiply_avx512bf16(const PanelProduct& p) {
  multiply_eight<true>(p, 0);
  for (std::int64_t first = 8; first < p.rows; first += 8) multiply_eight<false>(p, first);
}

// The intrinsics of GCC 12 do not say which memory they touch, so the instructions are written out.
// Tile registers need no clobber: nothing else in the program uses them.
#define TILE_LOAD(tile, from, stride)                                                    \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"(from), "r"(std::int64_t{stride}) \
               : "memor"                                                                 \
                 "y")
// Without displacing what the first cache holds: b stays there while a streams by.
#define TILE_STREAM(tile, from, stride)                                                    \
  asm volatile("tileloaddt1 (%0,%1,1), %%tmm" #tile ::"r"(from), "r"(std::int64_t{stride}) \
               : "memory")
#define TILE_STORE(tile, to, stride)                                                       \
  asm volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(to), "r"(std::int64_t{stride}) \
               : "memory")
#define TILE_ZERO(tile) asm volatile("tilezero %%tmm" #tile ::: "memory")
#define TILE_MULTIPLY(sum, a, b) \
  asm volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sum ::: "memory")

struct alignas(64) TileConfiguration {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfiguration) == 64);
constexpr TileConfiguration tile_configuration;

constexpr std::int64_t tile_floats = 256;

#define TILE_LOAD_A(tile, from, stride) \
  if constexpr (b_streams) {            \
    TILE_LOAD(tile, from, stride);      \
  } else {                              \
    TILE_STREAM(tile, from, stride);    \
  }
#define TILE_LOAD_B(tile, from, stride) \
  if constexpr (b_streams) {            \
    TILE_STREAM(tile, from, stride);    \
  } else {                              \
    TILE_LOAD(tile, from, stride);      \
  }

template <bool b_streams>
CHUNKSTATE_AVX512BF16 void multiply_amx_half(const PanelProduct& p) {
  const bf16* a = p.a;
  const bf16* b = p.b;
  if (p.accumulate) {
    TILE_LOAD(0, p.sums, 64);
    TILE_LOAD(1, p.sums + tile_floats, 64);
  } else {
    TILE_ZERO(0);
    TILE_ZERO(1);
  }
  for (std::int64_t t = 0; t < p.depth_tiles; ++t) {
    TILE_LOAD_B(6, b, 64);
    TILE_LOAD_B(7, b + tile_elements, 64);
    TILE_LOAD_A(4, a, 64);
    TILE_MULTIPLY(0, 4, 6);
    TILE_MULTIPLY(1, 4, 7);
    prefetch_ahead(p, t);
    a += 2 * tile_elements;
    b += 2 * tile_elements;
  }
  TILE_STORE(0, p.sums, 64);
  TILE_STORE(1, p.sums + tile_floats, 64);
}

// All loads of a step before its products: 4 % faster than each beside its first use.
template <bool b_streams>
CHUNKSTATE_AVX512BF16 void multiply_amx(const PanelProduct& p) {
  if (p.rows <= 16) return multiply_amx_half<b_streams>(p);
  const bf16* a = p.a;
  const bf16* b = p.b;
  if (p.accumulate) {
    TILE_LOAD(0, p.sums, 64);
    TILE_LOAD(2, p.sums + 2 * tile_floats, 64);
    TILE_LOAD(1, p.sums + tile_floats, 64);
    TILE_LOAD(3, p.sums + 3 * tile_floats, 64);
  } else {
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
  }
  for (std::int64_t t = 0; t < p.depth_tiles; ++t) {
    TILE_LOAD_B(6, b, 64);
    TILE_LOAD_B(7, b + tile_elements, 64);
    TILE_LOAD_A(4, a, 64);
    TILE_LOAD_A(5, a + tile_elements, 64);
    TILE_MULTIPLY(0, 4, 6);
    TILE_MULTIPLY(2, 5, 6);
    TILE_MULTIPLY(1, 4, 7);
    TILE_MULTIPLY(3, 5, 7);
    prefetch_ahead(p, t);
    a += 2 * tile_elements;
    b += 2 * tile_elements;
  }
  TILE_STORE(0, p.sums, 64);
  TILE_STORE(1, p.sums + tile_floats, 64);
  TILE_STORE(2, p.sums + 2 * tile_floats, 64);
  TILE_STORE(3, p.sums + 3 * tile_floats, 64);
}

CHUNKSTATE_AVX512BF16 void turn_sums_avx512(const float* from, float* to) {
  turn_tile(reinterpret_cast<const bf16*>(from), line_elements, reinterpret_cast<bf16*>(to));
}

}  // namespace

TileScope::TileScope() {
  if (instruction_level() < InstructionLevel::amx) return;
  asm volatile("ldtilecfg %0" ::"m"(tile_configuration) : "memory");
}

TileScope::~TileScope() {
  // Tiles in use make every switch of threads save 8 KiB.
  if (instruction_level() >= InstructionLevel::amx) asm volatile("tilerelease" ::: "memory");
}

void pack_rows(const bf16* from, std::int64_t row, std::int64_t count, std::int64_t depth,
               bf16* panel) {
  pack_rows_avx512(from, row, count, depth, panel);
}

void pack_columns(const bf16* from, std::int64_t row, std::int64_t count, std::int64_t depth,
                  bf16* panel) {
  pack_columns_avx512(from, row, count, depth, panel);
}

void multiply_panels(const PanelProduct& product) {
  if (instruction_level() < InstructionLevel::amx) return multiply_avx512bf16(product);
  product.b_streams ? multiply_amx<true>(product) : multiply_amx<false>(product);
}

void turn_sums(const float* from, float* to) { turn_sums_avx512(from, to); }

#else

TileScope::TileScope() = default;
TileScope::~TileScope() = default;
void pack_rows(const bf16*, std::int64_t, std::int64_t, std::int64_t, bf16*) {}
void pack_columns(const bf16*, std::int64_t, std::int64_t, std::int64_t, bf16*) {}
void multiply_panels(const PanelProduct&) {}
void turn_sums(const float*, float*) {}

#endif

}  // namespace chunkstate
