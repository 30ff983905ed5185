// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace chunkstate::cpu {

/// One row of the online softmax. Scores of the first `visible` keys become weights relative to the
/// largest score so far, the others 0; returns what earlier sums must be multiplied with.
float soften(float* scores, std::int64_t visible, std::int64_t count, float* largest, float* total);

/// result = factor values.
void scale(const float* values, float factor, std::int64_t count, float* result);

}  // namespace chunkstate::cpu
