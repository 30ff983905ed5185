// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "core/checkpoint/checkpoint.hpp"
#include "core/checkpoint/model_config.hpp"
#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"
#include "kernels/peer_sum/peer_sum.hpp"
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

/// The group's peer_memory() for the kernels; none: no memory.
PeerBlocks peer_blocks(const RankGroup& group);

/// Up to so many floats peer_sum is taken instead of the group's own sums: 16 tokens' residual of
/// Bamba-9B. Every rank sends all of them to every other, where a ring sends two parts of each.
inline constexpr std::int64_t most_peer_sum_floats = std::int64_t{1} << 16;

/// What the ranks of a tensor split add up in every layer.
struct TensorSplit {
  RankGroup& group;
  const TensorShare& share;

  /// The rank whose part includes what the sum was before.
  bool is_first() const { return share.rank == 0; }
  /// fp32, without gaps; the sums on every rank. On a GPU `exec` has the group's stream.
  void sum(const Executor& exec, const AnyView<2>& values) const;
  void sum(const Executor& exec, const View<float, 1>& values) const;

  /// Whether every rank says yes. Collective.
  bool all_agree(bool mine) const;
  /// For peer_gather of all ranks' parts of `logits` [rows, vocabulary].
  PeerGatherArgs logits_gather(const View<float, 2>& logits) const;
};

}  // namespace chunkstate
