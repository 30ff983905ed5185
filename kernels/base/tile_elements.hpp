// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/base/bf16_tiles.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

// What stands between products of panels (bf16_tiles.hpp). All require has_bf16_tiles().

/// Panels b whose k are the `count` rows of `from`, `row` elements apart, and whose columns are
/// their `columns` elements: [columns / 32][panel_elements(count)]. All that is missing is zero.
void pack_pairs(const bf16* from, std::int64_t row, std::int64_t count, std::int64_t columns,
                bf16* panels);

/// `to` = panels b of `depth_tiles` tiles each, their k-th row times weight[k], rounded.
void weigh_pairs(const bf16* panels, std::int64_t count_panels, std::int64_t depth_tiles,
                 const float* weight, bf16* to);

/// One panel of sums as a tile of panel b, whose k are the sums' rows: [2][16 pairs][16][2].
void pack_sums(const float* sums, bf16* tile);

/// The same rows as a tile of panel a: [2][16 rows][32].
void round_sums(const float* sums, bf16* tile);

/// Row i of `panels` neighbouring panels of sums times factor[i]. 32 factors.
void scale_sums(const float* factor, std::int64_t panels, float* sums);

/// The first `rows` rows of neighbouring panels of sums, `columns` wide, to `to`, `to_row` elements
/// apart, as fp32 or bf16. Times factor[i] if given.
void store_sums(const float* sums, std::int64_t rows, std::int64_t columns, const float* factor,
                std::byte* to, std::int64_t to_row, DType dtype);

}  // namespace chunkstate
