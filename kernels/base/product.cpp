// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/product.hpp"

#include <algorithm>
#include <utility>

#include "kernels/base/rows.hpp"
#include "kernels/base/simd.hpp"

namespace chunkstate {
namespace {

/// Rows [i, i + Rows) and columns [j, j + Vectors * lanes): the sums stay in registers.
template <class Level, int Rows, int Vectors>
CHUNKSTATE_ALWAYS_INLINE void multiply_tile(const Product& p, std::int64_t i, std::int64_t j) {
  using Vector = typename Level::Vector;
  using Unaligned = typename Level::Unaligned;
  const float* const a = p.a + i * p.a_row;
  const float* const b = p.b + j;
  float* const c = p.c + i * p.c_row + j;
  const std::int64_t depth = std::min(p.depth, i + Rows + p.diagonal);
  Vector sum[Rows][Vectors] = {};
  for (std::int64_t k = 0; k < depth; ++k) {
    Vector row[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      row[v] = *reinterpret_cast<const Unaligned*>(b + k * p.b_row + v * Level::lanes);
    }
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const float factor = a[r * p.a_row + k * p.a_depth];
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[r][v] += factor * row[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
    float* const target = c + r * p.c_row;
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) {
      Unaligned* const place = reinterpret_cast<Unaligned*>(target + v * Level::lanes);
      if (p.c_factor != nullptr) sum[r][v] += p.c_factor[(i + r) * p.c_factor_row] * *place;
      *place = sum[r][v];
    }
  }
}

/// The last rows, fewer than a tile: one instantiation per count.
template <class Level, int Vectors, int... Counts>
CHUNKSTATE_ALWAYS_INLINE void multiply_rest(const Product& p, std::int64_t i, std::int64_t j,
                                            std::integer_sequence<int, Counts...>) {
  const std::int64_t rest = p.rows - i;
  ((rest == Counts + 1 ? multiply_tile<Level, Counts + 1, Vectors>(p, i, j) : void()), ...);
}

template <class Level, int Vectors>
CHUNKSTATE_ALWAYS_INLINE void multiply_columns(const Product& p, std::int64_t j) {
  std::int64_t i = 0;
  for (; i + Level::tile_rows <= p.rows; i += Level::tile_rows) {
    multiply_tile<Level, Level::tile_rows, Vectors>(p, i, j);
  }
  multiply_rest<Level, Vectors>(p, i, j, std::make_integer_sequence<int, Level::tile_rows - 1>{});
}

template <class Level>
CHUNKSTATE_ALWAYS_INLINE void multiply_level(const Product& p) {
  constexpr std::int64_t wide = Level::lanes * Level::tile_vectors;
  const std::int64_t columns = padded(p.columns);
  std::int64_t j = 0;
  for (; j + wide <= columns; j += wide) multiply_columns<Level, Level::tile_vectors>(p, j);
  if (j < columns) multiply_columns<Level, 1>(p, j);  // 16 columns: only where `wide` is 32
}

CHUNKSTATE_AVX512 void multiply_avx512(const Product& p) { multiply_level<Avx512>(p); }
CHUNKSTATE_AVX2 void multiply_avx2(const Product& p) { multiply_level<Avx2>(p); }
void multiply_baseline(const Product& p) { multiply_level<Baseline>(p); }

}  // namespace

void multiply(const Product& product) {
  static const auto run = select_level(multiply_avx512, multiply_avx2, multiply_baseline);
  run(product);
}

void transpose(const float* source, std::int64_t source_row, std::int64_t rows,
               std::int64_t columns, float* target, std::int64_t target_row) {
  using Vector = Baseline::Vector;
  using Bits = Baseline::Bits;
  using Unaligned = Baseline::Unaligned;
  const std::int64_t whole_rows = rows / 4 * 4;
  const std::int64_t whole_columns = columns / 4 * 4;
  // Squares of 4 x 4: two rounds of interleaving.
  for (std::int64_t i = 0; i < whole_rows; i += 4) {
    for (std::int64_t j = 0; j < whole_columns; j += 4) {
      Vector r[4];
      for (int k = 0; k < 4; ++k) {
        r[k] = *reinterpret_cast<const Unaligned*>(source + (i + k) * source_row + j);
      }
      const Vector low02 = __builtin_shuffle(r[0], r[2], Bits{0, 4, 1, 5});
      const Vector high02 = __builtin_shuffle(r[0], r[2], Bits{2, 6, 3, 7});
      const Vector low13 = __builtin_shuffle(r[1], r[3], Bits{0, 4, 1, 5});
      const Vector high13 = __builtin_shuffle(r[1], r[3], Bits{2, 6, 3, 7});
      float* const place = target + j * target_row + i;
      const auto store = [](float* at, Vector v) { *reinterpret_cast<Unaligned*>(at) = v; };
      store(place, __builtin_shuffle(low02, low13, Bits{0, 4, 1, 5}));
      store(place + target_row, __builtin_shuffle(low02, low13, Bits{2, 6, 3, 7}));
      store(place + 2 * target_row, __builtin_shuffle(high02, high13, Bits{0, 4, 1, 5}));
      store(place + 3 * target_row, __builtin_shuffle(high02, high13, Bits{2, 6, 3, 7}));
    }
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = i < whole_rows ? whole_columns : 0; j < columns; ++j) {
      target[j * target_row + i] = source[i * source_row + j];
    }
  }
}

}  // namespace chunkstate
