// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/head_scan.hpp"
#include "kernels/ssd/head_states.hpp"

namespace chunkstate::cpu {

/// Whether the scan of these can run in products of bf16: x, B and C are bf16, y is bf16 or fp32,
/// and has_bf16_tiles().
bool tile_scan_applies(const SsdArgs& args);

/// BlockSteps by products of panels (bf16_tiles.hpp): sums and states in fp32; C B^T with its
/// decays, x, weighted x and the state that C reads are rounded to bf16.
class TileSteps final : public BlockSteps {
 public:
  /// `memory` holds floats(), aligned to a cache line.
  TileSteps(const SsdArgs& args, const SsdShared& shared, std::int64_t h, std::int64_t longest,
            HeadStates& states, float* memory);
  static std::int64_t floats(const SsdArgs& args, std::int64_t longest);

  void load_x(const SsdBlock& block) override;
  void output(const SsdBlock& block, std::int64_t index, const float* start) override;
  void update(const SsdBlock& block, std::int64_t index) override;

 private:
  void output_band(const SsdBlock& block, std::int64_t index, std::int64_t band, bool reads_state);

  const SsdArgs& args_;
  const SsdShared& shared_;
  const std::int64_t h_;
  const std::int64_t g_;
  const std::int64_t head_dim_;
  const std::int64_t column_panels_;  // of head_dim
  const std::int64_t state_panels_;   // of state_dim
  HeadStates& states_;

  bf16* x_;         // [column panel]  panels b: k are tokens
  bf16* weighted_;  // the same, x times its weight in the block's end state
  bf16* state_;     // [column panel]  panels b: k are elements of the state
  bf16* masked_;    // panel a of 32 tokens: k are tokens
  float* y_;        // [column panel]  sums of 32 tokens
  double* lambda_;  // [length]  here and below padded to 32
  float* delta_;
  float* decay_;   // since the block's begin
  float* weight_;  // in the block's end state
};

/// B, C and the scores C B^T of one block and group, as SsdShared::tiles says. Within a TileScope.
void prepare_tiles(const SsdArgs& args, const SsdBlock& block, std::int64_t index, std::int64_t g,
                   const SsdShared& shared, Scratch& scratch);

}  // namespace chunkstate::cpu
