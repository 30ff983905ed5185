// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/checkpoint/model_config.hpp"
#include "core/layers.hpp"
#include "core/sequence_state.hpp"
#include "core/tensor.hpp"
#include "core/weights.hpp"
#include "kernels/base/recording.hpp"
#include "kernels/linear/linear_step.hpp"
#include "kernels/sampling/greedy_step.hpp"

namespace chunkstate {

struct ModelOptions;

/// What a decoder uses of its model, which must outlive it.
struct DecoderParts {
  const ModelConfig& config;  // of this rank's layers
  const ModelOptions& options;
  const Executor& exec;
  const Weights& weights;
  View<const float, 1> inverse_frequency;
  const TensorSplit* tensor;  // or nullptr
};

/// Decode steps of all sequences of a state on a GPU: everything a step reads and writes stays
/// there, tokens and positions included, so a step is one list of launches that never changes. It
/// is built once, recorded at the first step (ExecutionMode::graph) and replayed for any tokens,
/// any positions and any contents of the state. Nothing is allocated per step.
class Decoder {
 public:
  /// Steps may run ahead of what the host has seen by this many.
  static constexpr std::int64_t max_ahead = 4;

  /// The state's memory must stay where it is. Throws std::bad_alloc.
  Decoder(const DecoderParts& parts, SequenceState& state);

  /// The tokens of the next step, one per sequence, at the positions that `state` says; open steps
  /// are dropped. `state` must stay where it is until the last step. Throws UsageError if a
  /// sequence is full.
  void start(SequenceState& state, std::span<const std::int32_t> tokens);
  /// Runs a step with the tokens of start() or, after that, with those of the step before. At most
  /// max_ahead steps may be open. The caller sees to it that the sequences have room.
  void launch();
  /// Waits for the oldest open step. Its greedy tokens, which are the next step's. Throws
  /// std::domain_error for NaN or infinite logits.
  std::vector<Sampled> collect();
  /// The same without check_sampled(), where not all sequences count.
  std::vector<Sampled> collect_unchecked();
  std::int64_t open_steps() const { return launched_ - collected_; }

  /// In place of the greedy ones. No step may be open.
  void set_tokens(std::span<const std::int32_t> tokens);
  /// Of the newest step. No step may be open. [batch, vocab] in host memory, until the next call.
  View<const float, 2> logits();

  bool fused() const { return fused_; }
  std::size_t bytes() const;

 private:
  void build_plain(SequenceState& state);
  void build_fused(SequenceState& state);
  bool fits_fused() const;
  bool fits_peers() const;
  void add_fused_mamba(SequenceState& state, std::size_t index);
  void add_fused_attention(SequenceState& state, std::size_t index);
  void add_fused_mlp(std::size_t index);
  LinearStepArgs normed(const ConstAnyView<1>& norm) const;
  LinearStepArgs to_residual(const ConstAnyView<2>& x, const ConstAnyView<2>& weight,
                             const ConstAnyView<1>& bias) const;
  void add_linear(const LinearStepArgs& args);
  void add_to_residual(const LinearStepArgs& args);
  void add_sampling();
  AnyView<2> buffer(DType dtype, std::int64_t columns);
  template <class T>
  View<T, 1> numbers(std::int64_t count);
  void run_launches() const;

  DecoderParts parts_;
  std::int64_t batch_;
  bool fused_ = false;
  std::vector<Tensor> memory_;
  std::vector<std::function<void()>> launches_;
  std::vector<LinearStepArgs> linears_;
  std::unique_ptr<Recording> recording_;

  PackedTokens packed_;
  Arena arena_;                          // of layers that are not fused
  std::optional<LayerContext> context_;  // the same
  View<std::int32_t, 1> tokens_;
  View<std::int64_t, 1> positions_, lengths_;
  View<std::uint64_t, 1> steps_;
  AnyView<2> residual_, logits_;
  View<float, 2> squares_;    // of the residual, from the kernel that wrote it
  bool has_squares_ = false;  // while building: some kernel before has
  AnyView<2> projected_, gated_, q_, k_, v_, attended_, activated_;  // fused
  View<float, 2> gate_squares_;
  AnyView<2> part_;  // this rank's, of what a tensor split adds to the residual; fused
  std::shared_ptr<std::byte> results_;  // [max_ahead, batch] Sampled
  std::array<Marker, max_ahead> markers_;
  std::int64_t launched_ = 0, collected_ = 0;
  std::vector<float> host_logits_;
};

/// Device bytes of a decoder, about: without the few KB of its counters.
std::size_t decoder_bytes(const ModelConfig& config, const ModelOptions& options,
                          std::int64_t batch, std::int64_t capacity);

}  // namespace chunkstate
