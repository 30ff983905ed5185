// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>

namespace chunkstate {

/// A small matrix product of one thread, c = factor * c + a b, on fp32 in the caches.
///
/// The caller has arranged its operands so that the columns of b and c are contiguous; `columns` is
/// rounded up to a multiple of 16 inside, and the rows of b and c must reach so far.
struct Product {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t depth = 0;

  const float* a = nullptr;  // element (i, k) at a[i * a_row + k * a_depth]
  std::int64_t a_row = 0;
  std::int64_t a_depth = 1;

  const float* b = nullptr;  // element (k, j) at b[k * b_row + j]
  std::int64_t b_row = 0;

  float* c = nullptr;  // element (i, j) at c[i * c_row + j]
  std::int64_t c_row = 0;

  const float* c_factor = nullptr;  // of row i: c_factor[i * c_factor_row]; nullptr: c is not read
  std::int64_t c_factor_row = 0;    // 0: one factor for all rows

  // a is lower triangular: row i ends at depth i + diagonal, included. What stands right of that
  // within eight rows must be zero, since whole tiles are multiplied.
  std::int64_t diagonal = std::numeric_limits<std::int32_t>::max();
};

/// Each element of c is one sum over ascending k, so the result does not depend on the other rows
/// and columns of the call.
void multiply(const Product& product);

/// target[j * target_row + i] = source[i * source_row + j].
void transpose(const float* source, std::int64_t source_row, std::int64_t rows,
               std::int64_t columns, float* target, std::int64_t target_row);

}  // namespace chunkstate
