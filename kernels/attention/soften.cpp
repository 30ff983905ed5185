// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/soften.hpp"

#include "kernels/base/simd.hpp"
#include "kernels/base/vector_math.hpp"

namespace chunkstate::cpu {

CHUNKSTATE_MULTIVERSION
float soften(float* scores, std::int64_t visible, std::int64_t count, float* largest,
             float* total) {
  float top = *largest;
#pragma omp simd reduction(max : top)
  for (std::int64_t j = 0; j < visible; ++j) top = scores[j] > top ? scores[j] : top;
  float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < visible; ++j) {
    const float weight = fast_exp(scores[j] - top);
    scores[j] = weight;
    sum += weight;
  }
  for (std::int64_t j = visible; j < count; ++j) scores[j] = 0.0F;
  const float correction = fast_exp(*largest - top);
  *total = *total * correction + sum;
  *largest = top;
  return correction;
}

CHUNKSTATE_MULTIVERSION
void scale(const float* values, float factor, std::int64_t count, float* result) {
#pragma omp simd
  for (std::int64_t d = 0; d < count; ++d) result[d] = values[d] * factor;
}

}  // namespace chunkstate::cpu
