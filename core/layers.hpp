// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/arena.hpp"
#include "core/checkpoint/model_config.hpp"
#include "core/sequence_split.hpp"
#include "core/sequence_state.hpp"
#include "core/tensor_share.hpp"
#include "core/weights.hpp"
#include "kernels/attention/attention.hpp"

namespace chunkstate {

/// The tokens of one forward pass: those of every sequence one after another, without padding.
struct PackedTokens {
  struct Piece {
    std::int64_t sequence = 0;   // index into the SequenceState
    std::int64_t first_row = 0;  // its tokens are rows [first_row, first_row + tokens)
    std::int64_t tokens = 0;
    std::int64_t first_position = 0;  // of its first token in its sequence
  };
  /// Neighbouring sequences with one token each: they run as one batch.
  struct StepRun {
    std::int64_t first_sequence = 0;
    std::int64_t first_row = 0;
    std::int64_t batch = 0;
  };

  std::vector<Piece> pieces;
  std::vector<StepRun> step_runs;  // cover all pieces, if every piece has one token; else empty
  std::int64_t tokens = 0;
  View<const std::int64_t, 1> positions;  // [tokens]  in memory of the backend
  View<const std::int64_t, 1> lengths;    // [tokens]  positions + 1
};

/// What every layer of a forward pass shares.
struct LayerContext {
  const Executor& exec;
  const ModelConfig& config;
  DType dtype;  // of activations
  const PackedTokens& packed;
  SequenceState& state;
  Arena& arena;
  View<const float, 1> inverse_frequency;  // [rotary_dim / 2]
  SequenceSplit* split = nullptr;          // given: `packed` is this rank's part of one sequence
  const TensorSplit* tensor = nullptr;     // given: `config` is this rank's part of the model
  AttentionChoice attention;
};

/// residual += weight x + bias, over all ranks of a tensor split.
void add_to_residual(const LayerContext& context, ConstAnyView<2> x, ConstAnyView<2> weight,
                     ConstAnyView<1> bias, AnyView<2> residual);

/// residual += out_proj(gated_norm(ssd(conv(in_proj(x)))));  x, residual: [tokens, hidden].
void mamba_layer(const LayerContext& context, std::size_t layer, const MambaWeights& weights,
                 ConstAnyView<2> x, AnyView<2> residual);

/// residual += o(attention(rope(q(x)), rope(k(x)), v(x))).
void attention_layer(const LayerContext& context, std::size_t layer,
                     const AttentionWeights& weights, ConstAnyView<2> x, AnyView<2> residual);

/// residual += down(silu(gate(x)) * up(x)).
void mlp_layer(const LayerContext& context, const MlpWeights& weights, ConstAnyView<2> x,
               AnyView<2> residual);

/// Arena bytes that one of these needs for so many tokens (the largest of the model's kinds).
std::size_t layer_arena_bytes(const ModelConfig& config, DType dtype, std::int64_t tokens);
/// And more, on a GPU, where every sequence of a batch has one token.
std::size_t attention_step_arena_bytes(const ModelConfig& config, const AttentionChoice& attention,
                                       std::int64_t batch, std::int64_t capacity);
/// And more for the scores that AttentionMethod::naive writes, of `tokens` tokens of a sequence
/// that then has `keys`.
std::size_t attention_scores_arena_bytes(const ModelConfig& config, Backend backend, DType dtype,
                                         const AttentionChoice& attention, std::int64_t tokens,
                                         std::int64_t keys);

/// Scratch memory on a GPU of the scan of a layer over `tokens` of each of `sequences`.
std::size_t scan_scratch_bytes(const ModelConfig& config, DType dtype, const SsdSettings& ssd,
                               std::int64_t sequences, std::int64_t tokens);

}  // namespace chunkstate
