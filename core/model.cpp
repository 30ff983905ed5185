// SPDX-License-Identifier: Apache-2.0
#include "core/model.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "core/errors.hpp"
#include "core/mamba1.hpp"
#include "core/trace.hpp"
#include "kernels/base/memory.hpp"
#include "kernels/embedding/embedding.hpp"
#include "kernels/rms_norm/rms_norm.hpp"

namespace chunkstate {
namespace {

ModelConfig first_layers(ModelConfig config, std::int64_t layers) {
  const auto available = static_cast<std::int64_t>(config.layers.size());
  if (layers < 0 || layers > available) {
    throw UsageError("layers: found " + std::to_string(layers) + ", the model has " +
                     std::to_string(available));
  }
  if (layers > 0) config.layers.resize(static_cast<std::size_t>(layers));
  return config;
}

ModelOptions for_family(ModelOptions options, const ModelConfig& config) {
  if (config.residual_in_fp32) options.residual_dtype = DType::fp32;
  return options;
}

// In fp32 and by powf, as transformers forms them: angles of late positions depend on the last
// bits.
Tensor make_inverse_frequency(const ModelConfig& config, const Executor& exec) {
  const std::int64_t pairs = config.rotary_dim / 2;
  std::vector<float> values(static_cast<std::size_t>(pairs));
  for (std::int64_t i = 0; i < pairs; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.rotary_dim);
    values[static_cast<std::size_t>(i)] =
        1.0F / std::pow(static_cast<float>(config.rope_theta), exponent);
  }
  Tensor tensor(exec.backend, DType::fp32, {pairs});
  copy_to_backend(exec, tensor.data(), values.data(), tensor.bytes());
  synchronize(exec);
  return tensor;
}

// `sink` for rows of tokens from `begin` on.
RowSink later_rows(const RowSink& sink, std::int64_t begin) {
  const auto* const take = std::get_if<LogitsSink>(&sink);
  if (take == nullptr || begin == 0) return sink;
  return
      [take, begin](std::int64_t sequence, std::int64_t first_token, View<const float, 2> logits) {
        (*take)(sequence, begin + first_token, logits);
      };
}

std::optional<TensorShare> share_of(const ModelConfig& config, const RankGroup* group) {
  if (group == nullptr || group->size() == 1) return {};
  return tensor_share(config, group->rank(), group->size());
}

}  // namespace

Model::Model(ModelConfig config, std::shared_ptr<const Checkpoint> checkpoint,
             const ModelOptions& options)
    : config_(first_layers(std::move(config), options.layers)),
      options_(for_family(options, config_)),
      share_(share_of(config_, options.tensor_group)),
      stream_(options.backend),
      exec_{options.backend, options.threads, stream_.get(), options.execution.autotune},
      weights_(layer_config(),
               share_ ? share_of_checkpoint(std::move(checkpoint), config_, *share_)
                      : std::move(checkpoint),
               options.backend, options.dtype, vocab_rows()),
      inverse_frequency_(make_inverse_frequency(config_, exec_)),
      arena_(options.backend) {
  if (!share_) return;
  tensor_.emplace(TensorSplit{*options.tensor_group, *share_});
  options_.residual_dtype = DType::fp32;
}

SequenceState Model::make_state(const SsdSettings& ssd, std::int64_t batch,
                                std::int64_t capacity) const {
  return {layer_config(), exec_, options_.dtype, options_.state_dtype, ssd, batch, capacity};
}

void Model::set_attention(const AttentionChoice& attention) {
  if (attention.method != options_.execution.attention.method) arena_ = Arena(options_.backend);
  options_.execution.attention = attention;
}

void Model::check_input(std::span<const std::span<const std::int32_t>> tokens,
                        const SequenceState& state) const {
  if (static_cast<std::int64_t>(tokens.size()) != state.batch()) {
    throw std::logic_error("forward: " + std::to_string(tokens.size()) +
                           " sequences for a state of " + std::to_string(state.batch()));
  }
  const SsdSettings& ssd = state.ssd();
  for (std::size_t s = 0; s < tokens.size(); ++s) {
    const std::int64_t position = state.position(static_cast<std::int64_t>(s));
    const auto count = static_cast<std::int64_t>(tokens[s].size());
    if (count > state.capacity() - position) {
      throw UsageError("sequence " + std::to_string(s) + ": " + std::to_string(position + count) +
                       " tokens, room for " + std::to_string(state.capacity()));
    }
    if (count > 0 && !ssd.variant->causal() && position % ssd.chunk_size != 0) {
      throw UsageError(
          "variant " + std::string(ssd.variant->name) +
          " cannot continue inside a chunk: it has no decode form, use_cache must be off");
    }
    for (std::size_t t = 0; t < tokens[s].size(); ++t) {
      if (tokens[s][t] < 0 || tokens[s][t] >= config_.vocab_size) {
        throw UsageError("sequence " + std::to_string(s) + ", token " + std::to_string(t) +
                         ": id " + std::to_string(tokens[s][t]) + ", expected 0 to " +
                         std::to_string(config_.vocab_size - 1));
      }
    }
  }
}

const PackedTokens& Model::pack(std::span<const std::span<const std::int32_t>> tokens,
                                const SequenceState& state, const SequenceSplit* split,
                                View<const std::int32_t, 1>& ids) {
  PackedTokens& packed = packed_;
  packed.pieces.clear();
  packed.step_runs.clear();
  packed.tokens = 0;
  // A rank's only token of a longer prefill is scanned as the others are.
  bool single_tokens = state.ssd().variant->causal() && (split == nullptr || split->tokens() == 1);
  for (std::size_t s = 0; s < tokens.size(); ++s) {
    if (tokens[s].empty()) continue;
    const auto count = static_cast<std::int64_t>(tokens[s].size());
    const auto sequence = static_cast<std::int64_t>(s);
    const std::int64_t first = state.position(sequence) + (split ? split->own().begin : 0);
    packed.pieces.push_back({sequence, packed.tokens, count, first});
    packed.tokens += count;
    single_tokens = single_tokens && count == 1;
  }
  if (single_tokens) {
    for (const auto& piece : packed.pieces) {
      auto& runs = packed.step_runs;
      if (runs.empty() || runs.back().first_sequence + runs.back().batch != piece.sequence) {
        runs.push_back({piece.sequence, piece.first_row, 0});
      }
      ++runs.back().batch;
    }
  }

  const auto memory = arena_.take<1>(DType::fp32, {position_words * packed.tokens});
  const std::size_t bytes = static_cast<std::size_t>(memory.extent[0]) * sizeof(float);
  const bool on_device = exec_.backend == Backend::cuda;
  std::byte* const host = on_device ? staged_.take(bytes) : memory.data;
  const auto parts = [&packed](std::byte* data) {  // positions, lengths, ids
    auto* const numbers = reinterpret_cast<std::int64_t*>(data);
    return std::tuple(numbers, numbers + packed.tokens,
                      reinterpret_cast<std::int32_t*>(numbers + 2 * packed.tokens));
  };
  const auto [positions, lengths, tokens_of_pieces] = parts(host);
  for (const auto& piece : packed.pieces) {
    const auto& own = tokens[static_cast<std::size_t>(piece.sequence)];
    std::copy(own.begin(), own.end(), tokens_of_pieces + piece.first_row);
    std::iota(positions + piece.first_row, positions + piece.first_row + piece.tokens,
              piece.first_position);
    std::iota(lengths + piece.first_row, lengths + piece.first_row + piece.tokens,
              piece.first_position + 1);
  }
  if (on_device) {  // nobody waits for the copy, nor for what runs before it
    copy_to_backend(exec_, memory.data, host, bytes);
    staged_.mark(exec_);
  }
  const auto [device_positions, device_lengths, device_ids] = parts(memory.data);
  packed.positions = {device_positions, {packed.tokens}};
  packed.lengths = {device_lengths, {packed.tokens}};
  ids = {device_ids, {packed.tokens}};
  return packed;
}

void Model::forward(std::span<const std::span<const std::int32_t>> tokens, SequenceState& state,
                    LogitsRows rows, const RowSink& sink) {
  check_input(tokens, state);
  run(tokens, state, nullptr, rows, sink);
}

void Model::forward_split(std::span<const std::int32_t> tokens, SequenceState& state,
                          std::int64_t sequence, SequenceSplit& split, LogitsRows rows,
                          const RowSink& sink) {
  if (state.position(sequence) != 0 || split.tokens() != static_cast<std::int64_t>(tokens.size())) {
    throw std::logic_error("forward_split: expected a whole sequence");
  }
  std::vector<std::span<const std::int32_t>> batch(static_cast<std::size_t>(state.batch()));
  auto& own = batch[static_cast<std::size_t>(sequence)];
  own = tokens;
  check_input(batch, state);
  split.use_stream(exec_.stream);
  const Range range = split.own();
  own =
      tokens.subspan(static_cast<std::size_t>(range.begin), static_cast<std::size_t>(range.size()));
  const bool silent = rows == LogitsRows::last && !split.is_owner();
  run(batch, state, &split, silent ? LogitsRows::none : rows, later_rows(sink, range.begin));
  state.advance(sequence, split.tokens() - range.size());
  split.flush();
}

void Model::run(std::span<const std::span<const std::int32_t>> tokens, SequenceState& state,
                SequenceSplit* split, LogitsRows rows, const RowSink& sink) {
  std::int64_t total = 0;
  std::int64_t sequences = 0;
  for (const auto& sequence : tokens) {
    total += static_cast<std::int64_t>(sequence.size());
    sequences += sequence.empty() ? 0 : 1;
  }
  if (total == 0) return;
  if (tensor_) {
    tensor_->group.use_stream(exec_.stream);
    tensor_->group.flush();  // with the group's deadline, which the device's own waits lack
  }
  std::size_t bytes = arena_bytes(total, rows == LogitsRows::all ? total : sequences);
  if (options_.backend == Backend::cuda && total == sequences) {
    bytes += attention_step_arena_bytes(layer_config(), options_.execution.attention, state.batch(),
                                        state.capacity());
  }
  const Range taken = split != nullptr ? split->taken_tokens() : Range{};
  std::size_t scores = split != nullptr ? split_bytes(split->own(), taken) : 0;
  for (std::size_t s = 0; s < tokens.size() && split == nullptr; ++s) {  // one sequence at a time
    const auto count = static_cast<std::int64_t>(tokens[s].size());
    const std::int64_t keys = state.position(static_cast<std::int64_t>(s)) + count;
    scores = std::max(scores, scores_bytes(count, keys));
  }
  bytes += scores;
  arena_.reserve(bytes);
  needed_arena_bytes_ = std::max(needed_arena_bytes_, bytes);

  View<const std::int32_t, 1> ids;
  const PackedTokens& packed = pack(tokens, state, split, ids);
  const auto residual = arena_.take<2>(options_.residual_dtype, {total, config_.hidden_size});
  const LayerContext context{
      exec_,
      layer_config(),
      options_.dtype,
      packed,
      state,
      arena_,
      {reinterpret_cast<const float*>(inverse_frequency_.data()), {config_.rotary_dim / 2}},
      split,
      tensor(),
      options_.execution.attention};
  embedding(exec_, {ids, weights_.embedding, residual, config_.embedding_multiplier});

  if (taken.size() > 0) {
    const auto take = [&] { return arena_.take<2>(options_.dtype, {taken.size(), query_size()}); };
    const auto queries = take();
    split->lend(queries, take());
  }

  const std::size_t mark = arena_.mark();
  const auto x = arena_.take<2>(options_.dtype, {total, config_.hidden_size});
  for (std::size_t i = 0; i < weights_.layers.size(); ++i) {
    const LayerWeights& layer = weights_.layers[i];
    if (split != nullptr) split->beat();
    if (tensor_) tensor_->group.beat();
    rms_norm(exec_, {residual, layer.mixer_norm, config_.rms_norm_eps, x});
    if (layer.kind == LayerKind::mamba) {
      const TraceRegion region("mamba layer", TraceDetail::step);
      mamba_layer(context, i, layer.mamba, x, residual);
    } else {
      const TraceRegion region("attention layer", TraceDetail::step);
      attention_layer(context, i, layer.attention, x, residual);
    }
    if (!config_.has_mlp()) continue;
    rms_norm(exec_, {residual, layer.mlp_norm, config_.rms_norm_eps, x});
    const TraceRegion region("mlp layer", TraceDetail::step);
    mlp_layer(context, layer.mlp, x, residual);
  }
  mamba1_layers(context, weights_.mamba1_layers, x, residual);
  arena_.release(mark);

  for (const auto& piece : packed.pieces) state.advance(piece.sequence, piece.tokens);
  if (split != nullptr) split->flush();  // the logits' way to the host has no deadline of its own
  if (rows != LogitsRows::none && sink.index() != 0) emit_logits(packed, residual, rows, sink);
}

void Model::read_memory(std::span<std::byte> target, const std::byte* source) const {
  copy_to_host(exec_, target.data(), source, target.size());
}

void Model::prefill(std::span<const std::int32_t> tokens, SequenceState& state,
                    std::int64_t sequence, std::int64_t piece_tokens, LogitsRows rows,
                    const RowSink& sink) {
  const auto total = static_cast<std::int64_t>(tokens.size());
  std::int64_t piece =
      piece_tokens > 0 ? piece_tokens : std::clamp<std::int64_t>(total, 1, longest_pass());
  const SsdSettings& ssd = state.ssd();
  if (!ssd.variant->causal()) {  // a chunk must be seen whole
    piece = (piece + ssd.chunk_size - 1) / ssd.chunk_size * ssd.chunk_size;
  }
  std::vector<std::span<const std::int32_t>> batch(static_cast<std::size_t>(state.batch()));
  for (std::int64_t begin = 0; begin < total; begin += piece) {
    const std::int64_t count = std::min(piece, total - begin);
    batch[static_cast<std::size_t>(sequence)] =
        tokens.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count));
    const bool ends = begin + count == total;
    const LogitsRows wanted = rows == LogitsRows::last && !ends ? LogitsRows::none : rows;
    forward(batch, state, wanted, later_rows(sink, begin));
  }
}

}  // namespace chunkstate
