// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/linear/linear.hpp"

namespace chunkstate::cpu {

/// What becomes of the sums of a panel product of up to 32 outputs (PanelProduct::sums): scale
/// (sums + bias) (+ y), rounded once, goes to y of tokens [first_token, first_token + tokens).
/// `turned`: weights were panel a, so that a row of the sums is an output.
void finish_block(const LinearArgs& args, std::int64_t first_token, std::int64_t tokens,
                  std::int64_t first_output, bool turned, const float* sums);

}  // namespace chunkstate::cpu
