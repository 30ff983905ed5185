// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "kernels/linear/linear.hpp"

namespace chunkstate::cpu {

/// How tile_linear cuts its work. Changes the time and no bit of the result. Sums and x of a unit
/// of work stay in the second cache, a panel of weights in the first.
struct TileBlocking {
  std::int64_t tokens = 512;   // that share one packing of a weight panel, multiple of 32
  std::int64_t outputs = 512;  // of a unit of work at most, multiple of 32
  std::int64_t depth = 384;    // inputs at a time, multiple of 32: a panel of 24 KiB of weights
  std::optional<bool> turned;  // weights are panel a and the sums must be turned; not given: if
                               // that costs less than pairing the weights' elements
};

/// Whether tile_linear can take these: bf16 x and weights, an instruction level with bf16 products.
bool tile_linear_applies(const LinearArgs& args);

/// linear_group() by panels of bf16. Weights are packed panel by panel into the first cache, once
/// for every `tokens` tokens, so they need no memory of their own.
void tile_linear(const Executor& exec, std::span<const LinearArgs> products,
                 const TileBlocking& blocking = {});

}  // namespace chunkstate::cpu
