// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "core/checkpoint.hpp"
#include "core/model_config.hpp"
#include "kernels/base/view.hpp"
#include "parallel/partition.hpp"
#include "parallel/rank_group.hpp"

namespace chunkstate {

/// What one rank of a tensor split has of every layer: whole heads with the groups (or keys and
/// values) that they use, a part of the MLP's channels, and a part of the logits. Ranks whose heads
/// use the same group have it each.
struct TensorShare {
  int rank = 0;
  int ranks = 1;
  ModelConfig config;  // the model with this rank's heads, groups and channels only; hidden size
                       // and vocabulary are whole
  Range mamba_heads;
  Range groups;
  Range attention_heads;
  Range kv_heads;
  Range channels;                   // of the MLP
  Range vocab;                      // rows of lm_head
  std::int64_t inner_channels = 0;  // of all ranks
  bool splits_norm = false;         // the gated norm's mean is over all ranks' inner channels
};

/// Parts that differ by at most one head, or by one aligned block of channels. Throws UsageError,
/// which says what numbers of ranks the model allows.
TensorShare tensor_share(const ModelConfig& config, int rank, int ranks);

/// The rank's part of a model's weights, by the same names, with the shapes that `share.config`
/// says. Rows are used where they are; columns, and rows of several pieces, are copied. A bias that
/// is added once is zero on other ranks than the first. `config` is the whole model's.
std::shared_ptr<const Checkpoint> share_of_checkpoint(std::shared_ptr<const Checkpoint> whole,
                                                      const ModelConfig& config,
                                                      const TensorShare& share);

/// What the ranks of a tensor split add up in every layer.
struct TensorSplit {
  RankGroup& group;
  const TensorShare& share;

  /// The rank whose part includes what the sum was before.
  bool is_first() const { return share.rank == 0; }
  /// fp32, without gaps; the sums on every rank.
  void sum(const AnyView<2>& values) const;
  void sum(const View<float, 1>& values) const;
};

}  // namespace chunkstate
