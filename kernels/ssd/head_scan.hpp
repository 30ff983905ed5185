// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/base/rows.hpp"
#include "kernels/ssd/plan.hpp"
#include "kernels/ssd/ssd.hpp"

namespace chunkstate::cpu {

/// What all heads read, prepared once per pass: fp32, or panels of bf16 (bf16_tiles.hpp).
struct SsdShared {
  bool tiles = false;
  std::int64_t tokens = 0;
  std::int64_t state_dim = 0;
  double* lambda = nullptr;  // [heads, tokens]   sum of delta A from the block's begin, inclusive
  float* delta = nullptr;    // [heads, tokens]
  float* B = nullptr;        // [groups, tokens, state_dim]
  float* C = nullptr;        // [groups, tokens, state_dim]
  float* scores = nullptr;   // [groups][block][length, padded(length)]   C_i . B_j for j <= i
  std::int64_t scores_group = 0;
  const std::int64_t* scores_at = nullptr;  // [blocks]

  // With tiles, in the place of B, C and scores. length and state_dim count as padded to 32.
  bf16* C_rows = nullptr;         // [groups][block]  panels a of C: k are the elements of the state
  bf16* B_turned = nullptr;       // [groups][block]  panels a of B turned: k are the tokens
  std::int64_t panels_group = 0;  // elements of a group
  const std::int64_t* panels_at = nullptr;  // [blocks]
  // scores: [groups][block][row panel][column panel] panels of sums, up to the diagonal

  float* B_of(std::int64_t g, const SsdBlock& block) const {
    return B + (g * tokens + block.begin) * state_dim;
  }
  float* C_of(std::int64_t g, const SsdBlock& block) const {
    return C + (g * tokens + block.begin) * state_dim;
  }
  bf16* C_rows_of(std::int64_t g, std::int64_t index) const {
    return C_rows + g * panels_group + panels_at[index];
  }
  bf16* B_turned_of(std::int64_t g, std::int64_t index) const {
    return B_turned + g * panels_group + panels_at[index];
  }
  float* scores_of(std::int64_t g, std::int64_t index) const {
    return scores + g * scores_group + scores_at[index];
  }
};

/// What a head computes of one block after another; scan_head says when.
class BlockSteps {
 public:
  virtual ~BlockSteps() = default;

  virtual void load_x(const SsdBlock& block) = 0;
  /// y from the block's tokens, and from the state `start` before it; nullptr: that is zero.
  virtual void output(const SsdBlock& block, std::int64_t index, const float* start) = 0;
  /// S = exp(lambda_last) S + sum_j exp(lambda_last - lambda_j) delta_j B_j x_j^T.
  virtual void update(const SsdBlock& block, std::int64_t index) = 0;
};

/// All tokens of head h.
void scan_head(SsdSemantics semantics, const SsdArgs& args, const std::vector<SsdBlock>& blocks,
               const SsdShared& shared, std::int64_t h, Scratch& scratch);

}  // namespace chunkstate::cpu
