// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/base/rows.hpp"
#include "kernels/ssd/plan.hpp"
#include "kernels/ssd/ssd.hpp"

namespace chunkstate::cpu {

/// What all heads read: fp32, prepared once per pass.
struct SsdShared {
  std::int64_t tokens = 0;
  std::int64_t state_dim = 0;
  double* lambda = nullptr;  // [heads, tokens]   sum of delta A from the block's begin, inclusive
  float* delta = nullptr;    // [heads, tokens]
  float* B = nullptr;        // [groups, tokens, state_dim]
  float* C = nullptr;        // [groups, tokens, state_dim]
  float* scores = nullptr;   // [groups][block][length, padded(length)]   C_i . B_j for j <= i
  std::int64_t scores_group = 0;
  const std::int64_t* scores_at = nullptr;  // [blocks]

  float* B_of(std::int64_t g, const SsdBlock& block) const {
    return B + (g * tokens + block.begin) * state_dim;
  }
  float* C_of(std::int64_t g, const SsdBlock& block) const {
    return C + (g * tokens + block.begin) * state_dim;
  }
  float* scores_of(std::int64_t g, std::int64_t index) const {
    return scores + g * scores_group + scores_at[index];
  }
};

/// All tokens of head h.
void scan_head(SsdSemantics semantics, const SsdArgs& args, const std::vector<SsdBlock>& blocks,
               const SsdShared& shared, std::int64_t h, Scratch& scratch);

}  // namespace chunkstate::cpu
