// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/base/dtype.hpp"

namespace chunkstate::cpu {

/// masked_scores() (decay.hpp) of 32 tokens as panel a: rows [32 band, 32 band + 32), `band` + 1
/// tiles. `scores`: as many panels of sums. `lambda` and `delta` are read for all 32 (band + 1)
/// tokens; delta must be zero behind the block's last token. At most ssd_longest_block tokens.
/// Requires has_bf16_tiles().
void masked_tiles(const float* scores, const double* lambda, const float* delta, float skip,
                  std::int64_t band, bf16* panel);

/// decay = exp(lambda), and weight = exp(lambda[count - 1] - lambda) * delta; multiples of 16.
void tile_factors(const double* lambda, const float* delta, std::int64_t count, float* decay,
                  float* weight);

}  // namespace chunkstate::cpu
