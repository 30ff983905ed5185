// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/base/view.hpp"

namespace chunkstate {

/// Most tokens that one call of dot_rows takes: their sums fill the registers.
constexpr std::int64_t most_dot_tokens = 4;

/// sums[t * sums_row + o] = weight[begin + o] . x_t for o in [0, count), straight from the stored
/// weights: one pass over them, converted in registers. x is [tokens, in_features], tokens at most
/// most_dot_tokens. A row's sum does not depend on `begin` and `count`.
void dot_rows(const ConstAnyView<2>& weight, std::int64_t begin, std::int64_t count, const float* x,
              std::int64_t x_row, std::int64_t tokens, float* sums, std::int64_t sums_row);

/// The same for bf16 tokens and bf16 weights, by instructions that take 32 products at once.
/// Requires has_bf16_dot().
void dot_rows(const ConstAnyView<2>& weight, std::int64_t begin, std::int64_t count, const bf16* x,
              std::int64_t x_row, std::int64_t tokens, float* sums, std::int64_t sums_row);
bool has_bf16_dot();

}  // namespace chunkstate
