// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace chunkstate::cpu {

// The elementwise stages of the scan, vectorised. `lambda` is the inclusive sum of delta A over a
// block. It is kept in double: differences of close sums decide the result, and they would lose
// what a long block has summed up.

/// delta = clamp(softplus(dt + bias), lowest, largest), elementwise.
void step_sizes(const float* dt, const float* bias, float lowest, float largest, std::int64_t count,
                float* delta);

/// decay = exp(lambda).
void decays(const double* lambda, std::int64_t count, float* decay);

/// weight = exp(lambda[count - 1] - lambda) * delta: what token j's x B^T contributes to the state
/// at the block's end.
void weights_to_end(const double* lambda, const float* delta, std::int64_t count, float* weight);

/// Rows [begin, end) of the matrix that maps x to y within a block:
/// masked[i][j] = scores[i][j] * exp(lambda_i - lambda_j) * delta_j for j <= i, plus `skip` for
/// j == i, and zeros for the at least eight columns after. Row i of `masked` starts at
/// masked + (i - begin) * masked_row and needs end + 24 columns. `begin` is a multiple of 16.
void masked_scores(const float* scores, std::int64_t scores_row, const double* lambda,
                   const float* delta, float skip, std::int64_t begin, std::int64_t end,
                   float* masked, std::int64_t masked_row);

/// target = factor * source + target (or without target if `overwrite`).
void add_scaled(float factor, const float* source, std::int64_t count, bool overwrite,
                float* target);

/// Row j of target = weight[j] * row j of source.
void scale_rows(const float* weight, const float* source, std::int64_t rows, std::int64_t columns,
                float* target);

}  // namespace chunkstate::cpu
