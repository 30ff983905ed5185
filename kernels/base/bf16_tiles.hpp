// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/base/dtype.hpp"

namespace chunkstate {

// Products of bf16 rows with fp32 sums, c[i][j] = sum_k a_i[k] b_j[k], by AMX tiles or AVX512_BF16.
// Both operands are packed into panels of 32 rows (a) or 32 columns (b), cut into tiles of 32 k:
//   a: [k / 32][2][16 rows][32 k]            b: [k / 32][2][16 pairs of k][16 columns][2]
// One tile is 1 KiB: a tile register, 16 registers of AVX-512.

inline constexpr std::int64_t panel_width = 32;  // rows or columns of a panel
inline constexpr std::int64_t tile_depth = 32;   // k of a tile
inline constexpr std::int64_t panel_sums = panel_width * panel_width;

/// Elements of a panel of so many k.
constexpr std::int64_t panel_elements(std::int64_t depth) {
  return (depth + tile_depth - 1) / tile_depth * tile_depth * panel_width;
}

/// Whether instruction_level() has the products below.
bool has_bf16_tiles();

/// Packs `count` <= 32 rows of `depth` elements, `row` elements apart, as panel a. Missing rows up
/// to the next 16 and missing k are zero; rows beyond that are not written.
void pack_rows(const bf16* from, std::int64_t row, std::int64_t count, std::int64_t depth,
               bf16* panel);
/// The same rows as the 32 columns of panel b. All that is missing is zero.
void pack_columns(const bf16* from, std::int64_t row, std::int64_t count, std::int64_t depth,
                  bf16* panel);

/// to[c][r] = from[r][c], both [16][16].
void turn_sums(const float* from, float* to);

struct PanelProduct {
  const bf16* a = nullptr;
  const bf16* b = nullptr;
  std::int64_t rows = panel_width;  // of a; 16 and fewer take half the time
  std::int64_t depth_tiles = 0;
  // [2][2][16][16]: halves of the rows, halves of the columns. Sums of 16 rows and fewer leave the
  // second half of the rows as it is.
  float* sums = nullptr;
  bool accumulate = false;  // sums += instead of sums =
  bool b_streams = false;   // a is used again and should stay in the first cache, not b

  // What the caches should hold next: `ahead_count` rows of depth_tiles cache lines.
  const bf16* ahead = nullptr;
  std::int64_t ahead_row = 0;
  std::int64_t ahead_count = 0;
  // And depth_tiles times so many lines.
  const bf16* ahead_lines = nullptr;
  std::int64_t ahead_lines_count = 0;
  // And, in the first cache, depth_tiles times so many lines of the sums of the product to come.
  const float* next_sums = nullptr;
  std::int64_t next_sums_lines = 0;
};

/// While it lives, this thread may call multiply_panels. (AMX: the tiles are configured.)
class TileScope {
 public:
  TileScope();
  ~TileScope();
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

/// Every sum runs over ascending k in one register, so it depends on nothing else in the call.
void multiply_panels(const PanelProduct& product);

}  // namespace chunkstate
