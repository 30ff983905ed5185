// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/decay.hpp"

#include <algorithm>

#include "kernels/base/simd.hpp"
#include "kernels/base/vector_math.hpp"

namespace chunkstate::cpu {
namespace {

// exp(lambda_i - lambda_j) of rows and columns that are at least a square apart is a product of two
// factors <= 1 that meet at the square's first token: one exponential per row and column and square
// instead of one per element. Inside a square the factors could overflow, so there each is
// computed.
constexpr std::int64_t square = 16;

/// columns[j] = exp(reference - lambda_j) * delta_j.
CHUNKSTATE_MULTIVERSION
void column_factors(double reference, const double* lambda, const float* delta, std::int64_t count,
                    float* columns) {
#pragma omp simd
  for (std::int64_t j = 0; j < count; ++j) {
    columns[j] = fast_exp(static_cast<float>(reference - lambda[j])) * delta[j];
  }
}

CHUNKSTATE_MULTIVERSION
void outside_square(const float* scores, float row, const float* columns, std::int64_t count,
                    float* masked) {
#pragma omp simd
  for (std::int64_t j = 0; j < count; ++j) masked[j] = scores[j] * (row * columns[j]);
}

/// The square's columns of one row; `local` is lambda relative to the token before the square.
CHUNKSTATE_MULTIVERSION
void inside_square(const float* scores, const float* local, const float* delta, std::int64_t row,
                   float skip, float* masked) {
#pragma omp simd
  for (std::int64_t j = 0; j < square; ++j) {
    // Rounding of local could make the difference positive.
    const float difference = local[row] - local[j];
    const float decay = fast_exp(difference < 0.0F ? difference : 0.0F);
    const float value = scores[j] * decay * delta[j] + (j == row ? skip : 0.0F);
    masked[j] = j <= row ? value : 0.0F;
  }
}

}  // namespace

CHUNKSTATE_MULTIVERSION
void step_sizes(const float* dt, const float* bias, float lowest, float largest, std::int64_t count,
                float* delta) {
#pragma omp simd
  for (std::int64_t h = 0; h < count; ++h) {
    const float value = fast_softplus(dt[h] + bias[h]);
    const float raised = value < lowest ? lowest : value;
    delta[h] = raised > largest ? largest : raised;
  }
}

CHUNKSTATE_MULTIVERSION
void decays(const double* lambda, std::int64_t count, float* decay) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) decay[i] = fast_exp(static_cast<float>(lambda[i]));
}

void weights_to_end(const double* lambda, const float* delta, std::int64_t count, float* weight) {
  column_factors(lambda[count - 1], lambda, delta, count, weight);
}

void masked_scores(const float* scores, std::int64_t scores_row, const double* lambda,
                   const float* delta, float skip, std::int64_t begin, std::int64_t end,
                   float* masked, std::int64_t masked_row) {
  float columns[512];
  for (std::int64_t first = begin; first < end; first += square) {
    const std::int64_t count = std::min(square, end - first);
    const double reference = first == 0 ? 0.0 : lambda[first - 1];
    float local[square] = {};
    float local_delta[square] = {};
    float rows[square];
    double relative[square];
    for (std::int64_t i = 0; i < count; ++i) {
      relative[i] = lambda[first + i] - reference;
      local[i] = static_cast<float>(relative[i]);
      local_delta[i] = delta[first + i];
    }
    decays(relative, count, rows);
    column_factors(reference, lambda, delta, first, columns);
    for (std::int64_t i = 0; i < count; ++i) {
      const float* const from = scores + (first + i) * scores_row;
      float* const to = masked + (first + i - begin) * masked_row;
      outside_square(from, rows[i], columns, first, to);
      inside_square(from + first, local, local_delta, i, skip, to + first);
      std::fill_n(to + first + square, 8, 0.0F);
    }
  }
}

CHUNKSTATE_MULTIVERSION
void add_scaled(float factor, const float* source, std::int64_t count, bool overwrite,
                float* target) {
  if (overwrite) {
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) target[i] = factor * source[i];
  } else {
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) target[i] += factor * source[i];
  }
}

CHUNKSTATE_MULTIVERSION
void scale_rows(const float* weight, const float* source, std::int64_t rows, std::int64_t columns,
                float* target) {
  for (std::int64_t j = 0; j < rows; ++j) {
#pragma omp simd
    for (std::int64_t p = 0; p < columns; ++p) {
      target[j * columns + p] = weight[j] * source[j * columns + p];
    }
  }
}

}  // namespace chunkstate::cpu
