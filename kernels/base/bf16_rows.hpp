// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/base/dtype.hpp"

namespace chunkstate {

// Elementwise stages of rows that are bf16 and become bf16: converted in registers, arithmetic in
// fp32, exponentials and reciprocals within 1e-4, far below the result's rounding. All require
// has_bf16_tiles().

/// y = silu(gate) up.
void silu_mul_row(const bf16* gate, const bf16* up, std::int64_t count, bf16* y);

/// y = x silu(z); returns the sum of its squares.
float gate_row(const bf16* x, const bf16* z, std::int64_t count, float* y);

/// y = weight (x scale).
void scale_row(const float* x, const float* weight, float scale, std::int64_t count, bf16* y);

/// The sum of x's squares; `copy` = x.
float square_row(const bf16* x, std::int64_t count, float* copy);

/// y = silu(bias + sum of weight[k] rows[k]) of four taps; `weight` is [4, count].
void convolve_row(const bf16* const* rows, const float* weight, const float* bias,
                  std::int64_t count, bf16* y);

}  // namespace chunkstate
