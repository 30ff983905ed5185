// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <tuple>
#include <variant>
#include <vector>

#include "core/arena.hpp"
#include "core/checkpoint/checkpoint.hpp"
#include "core/checkpoint/model_config.hpp"
#include "core/decoder.hpp"
#include "core/execution_options.hpp"
#include "core/layers.hpp"
#include "core/sequence_state.hpp"
#include "core/tensor_share.hpp"
#include "core/weights.hpp"
#include "kernels/base/recording.hpp"
#include "kernels/sampling/sampling.hpp"

namespace chunkstate {

struct ModelOptions {
  Backend backend = Backend::cpu;
  int threads = 1;                     // cpu
  DType dtype = DType::fp32;           // of activations
  DType residual_dtype = DType::fp32;  // of the sum that runs through the layers
  DType state_dtype = DType::fp32;     // of the SSD state
  std::int64_t layers = 0;             // run the first N layers; 0 means all
  ExecutionOptions execution;
  /// Given: its ranks share every layer (tensor_share.hpp); all of them make the model and call its
  /// methods alike, and all get the whole logits. The residual sum is then in fp32. Must outlive
  /// the model; sums must lie in memory of `backend`.
  RankGroup* tensor_group = nullptr;
};

/// Bytes of the current GPU that all processes use, and that it has; 0 without one.
std::size_t device_memory_in_use();
std::size_t device_memory_total();
/// How much more this process had of it at some time since the last call than it has now.
std::size_t device_memory_given_back();

/// Which rows of logits a forward pass is asked for.
enum class LogitsRows : std::uint8_t { none, last, all };

/// Receives logits in host memory: rows [first_token, first_token + rows) of `sequence`'s tokens in
/// this call. [rows, vocab], fp32. Called in order of sequence and token; the view is valid during
/// the call only.
using LogitsSink = std::function<void(std::int64_t sequence, std::int64_t first_token,
                                      View<const float, 2> logits)>;
/// Receives the greedy token after the last of each sequence's tokens in this call, in order of
/// sequence. It is sampled where the logits are: on a GPU they stay there, and log-probabilities
/// are those of greedy_step().
using GreedySink = std::function<void(std::int64_t sequence, const Sampled& token)>;
/// A GreedySink goes with LogitsRows::last.
using RowSink = std::variant<std::monostate, LogitsSink, GreedySink>;

/// A model with its weights. Not thread-safe: one forward pass at a time.
class Model {
 public:
  /// Throws InputError for a checkpoint that does not fit the configuration, UsageError for too
  /// many layers, and for a number of ranks that the model cannot be shared out to.
  Model(ModelConfig config, std::shared_ptr<const Checkpoint> checkpoint,
        const ModelOptions& options);

  const ModelConfig& config() const { return config_; }     // layers cut to options.layers
  const ModelOptions& options() const { return options_; }  // residual_dtype as the family wants it
  /// This rank's.
  const Weights& weights() const { return weights_; }

  /// Of the forward passes and decoders from now on. No generation may be under way.
  /// Scores of another method are freed.
  void set_attention(const AttentionChoice& attention);

  /// Memory for `batch` sequences of up to `capacity` tokens.
  SequenceState make_state(const SsdSettings& ssd, std::int64_t batch, std::int64_t capacity) const;
  void reset(SequenceState& state) const { state.reset(exec_); }
  void reset(SequenceState& state, std::int64_t sequence) const { state.reset(exec_, sequence); }
  /// Copies memory of the model's backend, such as a part of a state, to the host.
  void read_memory(std::span<std::byte> target, const std::byte* source) const;
  /// The state that keep_state() left, started again, if it has the shape and the room; else a new
  /// one. So a request after another allocates nothing.
  SequenceState take_state(const SsdSettings& ssd, std::int64_t batch, std::int64_t capacity);
  void keep_state(SequenceState&& state) { spare_ = std::move(state); }

  /// Appends tokens[s] to sequence s: any number each, none included; the first of a sequence or
  /// later ones. A sequence's result does not depend on what else is in the batch. Throws
  /// UsageError for an id outside the vocabulary, for more tokens than the state's capacity, and
  /// for a variant without a decode form that would have to continue inside a chunk; for a
  /// GreedySink std::domain_error where sample() does.
  void forward(std::span<const std::span<const std::int32_t>> tokens, SequenceState& state,
               LogitsRows rows, const RowSink& sink = {});

  /// forward() of one sequence from its start, computed by the ranks of `split` together. All of
  /// them call it with the same tokens. `sink` gets the rows of this rank's tokens, of
  /// LogitsRows::last those of the owner only. Afterwards the owner can go on with forward(); the
  /// other ranks' states are not whole. Throws also what the group's receive() throws.
  void forward_split(std::span<const std::int32_t> tokens, SequenceState& state,
                     std::int64_t sequence, SequenceSplit& split, LogitsRows rows,
                     const RowSink& sink = {});

  /// forward() of one sequence in pieces of at most `piece_tokens` (0: longest_pass()), cut at
  /// chunk borders where the variant needs it, so that activation memory does not grow with the
  /// prompt.
  void prefill(std::span<const std::int32_t> tokens, SequenceState& state, std::int64_t sequence,
               std::int64_t piece_tokens, LogitsRows rows, const RowSink& sink = {});

  /// Tokens that a prefill runs at once where nothing else is asked for: all of them on a host, up
  /// to 32,768 on a GPU, where longer passes are no faster.
  std::int64_t longest_pass() const;

  /// On a GPU, for variants with a decode form: steps of all sequences of `state`. Kept, with what
  /// it recorded, for later calls with the same state and scan; valid until the next call.
  Decoder& decoder(SequenceState& state);
  bool has_decoder(const SequenceState& state) const;

  /// Bytes of requests on this backend, beside the weights: state, activations, scratch memory and
  /// decoder of `batch` sequences of up to `total_tokens`, of which `prefilled` are prefilled in
  /// pieces of `piece_tokens` (as prefill()), or each whole by `ranks` together (forward_split(),
  /// split_ranges()): the most of any rank. On a GPU what the driver and libraries hold comes on
  /// top.
  std::size_t request_bytes(const SsdSettings& ssd, std::int64_t batch, std::int64_t prefilled,
                            std::int64_t piece_tokens, std::int64_t total_tokens,
                            int ranks = 1) const;

  /// The same of a ContinuousBatch of `slots` sequences of up to `capacity` tokens, of which up to
  /// `prefilled` are prefilled, one sequence at a time.
  std::size_t slots_bytes(const SsdSettings& ssd, std::int64_t slots, std::int64_t prefilled,
                          std::int64_t piece_tokens, std::int64_t capacity) const;

  /// Bytes of weights held beside the checkpoint, and of activations reserved so far.
  std::size_t owned_bytes() const { return weights_.owned_bytes() + arena_.bytes(); }
  /// Bytes of states, activations and decoders that are kept for the next request.
  std::size_t working_bytes() const;
  /// Of these, what the last request did not need.
  std::size_t idle_bytes() const;
  /// Arena bytes that a forward pass over so many tokens reserves.
  std::size_t arena_bytes(std::int64_t tokens, std::int64_t logits_rows) const;

 private:
  // Words of 4 bytes that a token's id, position and length take.
  static constexpr std::int64_t position_words = 5;

  // Rows of logits that emit_logits() has to make, of one sequence.
  struct LogitsPiece {
    std::int64_t sequence, first_token, first_row, rows;
  };

  void check_input(std::span<const std::span<const std::int32_t>> tokens,
                   const SequenceState& state) const;
  const PackedTokens& pack(std::span<const std::span<const std::int32_t>> tokens,
                           const SequenceState& state, const SequenceSplit* split,
                           View<const std::int32_t, 1>& ids);
  void run(std::span<const std::span<const std::int32_t>> tokens, SequenceState& state,
           SequenceSplit* split, LogitsRows rows, const RowSink& sink);
  std::int64_t state_capacity(std::int64_t tokens) const;
  std::int64_t pass_capacity(std::int64_t tokens) const;
  std::size_t scratch_bytes(const SsdSettings& ssd, std::int64_t batch, std::int64_t sequences,
                            std::int64_t tokens) const;
  std::size_t scores_bytes(std::int64_t tokens, std::int64_t keys) const;
  std::size_t split_bytes(const Range& own, const Range& taken) const;
  void emit_logits(const PackedTokens& packed, AnyView<2> residual, LogitsRows rows,
                   const RowSink& sink);
  std::size_t logits_arena_bytes(std::int64_t rows) const;
  void make_logits(const ConstAnyView<2>& normed, const AnyView<2>& logits);
  void sample_greedy(const AnyView<2>& logits, Sampled* results);
  const float* on_host(const AnyView<2>& logits);

  // This rank's part of it.
  const ModelConfig& layer_config() const { return share_ ? share_->config : config_; }
  std::int64_t query_size() const {
    return layer_config().attention_heads * layer_config().attention_head_dim;
  }
  Range vocab_rows() const { return share_ ? share_->vocab : Range{0, config_.vocab_size}; }
  const TensorSplit* tensor() const { return tensor_ ? &*tensor_ : nullptr; }

  ModelConfig config_;
  ModelOptions options_;
  std::optional<TensorShare> share_;
  std::optional<TensorSplit> tensor_;
  LaunchStream stream_;
  Executor exec_;
  Weights weights_;
  Tensor inverse_frequency_;
  Arena arena_;
  std::vector<float> host_logits_;  // cuda only
  HostBlock staged_, sampled_;      // cuda only: a pass's ids and positions; greedy tokens
  // Of the pass under way; kept, so that a pass like the one before allocates nothing.
  PackedTokens packed_;
  std::vector<LogitsPiece> logits_pieces_;
  std::vector<Sampled> host_sampled_;
  std::optional<SequenceState> spare_;
  std::size_t needed_arena_bytes_ = 0;  // since take_state()
  std::int64_t needed_capacity_ = 0;    // of the state that take_state() gave
  using DecoderKey = std::tuple<std::uint64_t, const SsdVariant*, std::int64_t, AttentionMethod>;
  std::map<DecoderKey, std::unique_ptr<Decoder>> decoders_;  // cuda only
};

}  // namespace chunkstate
