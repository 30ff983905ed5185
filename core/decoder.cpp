// SPDX-License-Identifier: Apache-2.0
#include "core/decoder.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "core/errors.hpp"
#include "core/mamba1.hpp"
#include "core/model.hpp"
#include "kernels/base/memory.hpp"
#include "kernels/embedding/embedding.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/rms_norm/rms_norm.hpp"

namespace chunkstate {

Decoder::Decoder(const DecoderParts& parts, SequenceState& state)
    : parts_(parts), batch_(state.batch()), arena_(parts.exec.backend) {
  const ModelConfig& config = parts_.config;
  tokens_ = numbers<std::int32_t>(batch_);
  positions_ = numbers<std::int64_t>(batch_);
  lengths_ = numbers<std::int64_t>(batch_);
  steps_ = numbers<std::uint64_t>(1);
  residual_ = buffer(parts_.options.residual_dtype, config.hidden_size);
  logits_ = buffer(DType::fp32, config.vocab_size);
  results_ = shared_with_device(static_cast<std::size_t>(max_ahead * batch_) * sizeof(Sampled));

  launches_.emplace_back([this] {
    embedding(parts_.exec, {View<const std::int32_t, 1>(tokens_), parts_.weights.embedding,
                            residual_, parts_.config.embedding_multiplier});
  });
  fused_ = parts_.options.execution.fusion && parts_.tensor == nullptr && fits_fused();
  if (fused_) {
    build_fused(state);
  } else {
    build_plain(state);
  }
  add_sampling();
}

template <class T>
View<T, 1> Decoder::numbers(std::int64_t count) {
  constexpr auto words = static_cast<std::int64_t>(sizeof(T) / sizeof(float));
  memory_.emplace_back(Backend::cuda, DType::fp32, std::vector<std::int64_t>{count * words});
  fill_zero(parts_.exec, memory_.back().data(), memory_.back().bytes());
  return {reinterpret_cast<T*>(memory_.back().data()), {count}};
}
template View<float, 1> Decoder::numbers(std::int64_t count);
template View<std::uint32_t, 1> Decoder::numbers(std::int64_t count);

AnyView<2> Decoder::buffer(DType dtype, std::int64_t columns) {
  memory_.emplace_back(Backend::cuda, dtype, std::vector<std::int64_t>{batch_, columns});
  return memory_.back().view<2>();
}

// The layers as any forward pass runs them.
void Decoder::build_plain(SequenceState& state) {
  const ModelConfig& config = parts_.config;
  const DType dtype = parts_.options.dtype;
  packed_.tokens = batch_;
  packed_.positions = positions_;
  packed_.lengths = lengths_;
  packed_.step_runs.push_back({0, 0, batch_});
  arena_.reserve(layer_arena_bytes(config, dtype, batch_) +
                 attention_step_arena_bytes(config, parts_.options.execution.attention, batch_,
                                            state.capacity()));
  const AnyView<2> x = buffer(dtype, config.hidden_size);
  const auto norm = [this, x](const ConstAnyView<1>& weight) {
    rms_norm(parts_.exec, {residual_, weight, parts_.config.rms_norm_eps, x});
  };
  for (std::size_t i = 0; i < parts_.weights.layers.size(); ++i) {
    launches_.emplace_back([this, norm, x, i] {
      const LayerWeights& layer = parts_.weights.layers[i];
      norm(layer.mixer_norm);
      if (layer.kind == LayerKind::mamba) {
        mamba_layer(*context_, i, layer.mamba, x, residual_);
      } else {
        attention_layer(*context_, i, layer.attention, x, residual_);
      }
      if (!parts_.config.has_mlp()) return;
      norm(layer.mlp_norm);
      mlp_layer(*context_, layer.mlp, x, residual_);
    });
  }
  launches_.emplace_back(
      [this, x] { mamba1_layers(*context_, parts_.weights.mamba1_layers, x, residual_); });
  launches_.emplace_back([this, norm, x] {
    norm(parts_.weights.final_norm);
    const float scale = parts_.config.logits_multiplier;
    if (parts_.tensor == nullptr)
      return linear(parts_.exec, {x, parts_.weights.lm_head, {}, logits_, false, scale});
    fill_zero(parts_.exec, logits_.data,
              static_cast<std::size_t>(batch_ * parts_.config.vocab_size) * sizeof(float));
    const Range& columns = parts_.tensor->share.vocab;
    linear(parts_.exec, {x,
                         parts_.weights.lm_head,
                         {},
                         logits_.slice(1, columns.begin, columns.end),
                         false,
                         scale});
    parts_.tensor->sum(logits_);
  });
}

void Decoder::add_sampling() {
  GreedyStepArgs args;
  args.logits = logits_.as<float>();
  args.tokens = tokens_;
  args.positions = positions_;
  args.lengths = lengths_;
  args.results = {reinterpret_cast<Sampled*>(results_.get()), {max_ahead, batch_}};
  args.steps = steps_;
  args.partials = numbers<float>(greedy_step_partials(batch_));
  launches_.emplace_back([this, args] { greedy_step(parts_.exec, args); });
}

void Decoder::start(SequenceState& state, std::span<const std::int32_t> tokens) {
  if (parts_.tensor != nullptr) parts_.tensor->group.flush();
  synchronize(parts_.exec);
  collected_ = launched_;
  context_.emplace(LayerContext{parts_.exec, parts_.config, parts_.options.dtype, packed_, state,
                                arena_, parts_.inverse_frequency, nullptr, parts_.tensor,
                                parts_.options.execution.attention});
  std::vector<std::int64_t> positions;
  for (std::int64_t s = 0; s < batch_; ++s) {
    if (state.position(s) >= state.capacity()) {
      throw UsageError("sequence " + std::to_string(s) + ": no room after " +
                       std::to_string(state.capacity()) + " tokens");
    }
    positions.push_back(state.position(s));
  }
  const auto upload = [&](View<std::int64_t, 1> target) {
    copy_to_backend(parts_.exec, reinterpret_cast<std::byte*>(target.data), positions.data(),
                    positions.size() * sizeof(std::int64_t));
    synchronize(parts_.exec);
  };
  upload(positions_);
  for (std::int64_t& position : positions) ++position;
  upload(lengths_);
  set_tokens(tokens);
}

void Decoder::set_tokens(std::span<const std::int32_t> tokens) {
  if (open_steps() != 0 || static_cast<std::int64_t>(tokens.size()) != batch_) {
    throw std::logic_error("decoder: " + std::to_string(tokens.size()) + " tokens for " +
                           std::to_string(batch_) + " sequences, " + std::to_string(open_steps()) +
                           " open steps");
  }
  copy_to_backend(parts_.exec, reinterpret_cast<std::byte*>(tokens_.data), tokens.data(),
                  tokens.size_bytes());
  synchronize(parts_.exec);
}

void Decoder::run_launches() const {
  for (const auto& launch : launches_) launch();
}

void Decoder::launch() {
  if (open_steps() >= max_ahead) throw std::logic_error("decoder: too many open steps");
  if (recording_) {
    recording_->replay(parts_.exec);
  } else {
    run_launches();
    // The first step has made what operators make on first use.
    if (parts_.options.execution.mode == ExecutionMode::graph) {
      recording_ = std::make_unique<Recording>(parts_.exec, [this] { run_launches(); });
    }
  }
  markers_[static_cast<std::size_t>(launched_ % max_ahead)].set(parts_.exec);
  ++launched_;
}

std::vector<Sampled> Decoder::collect() {
  std::vector<Sampled> sampled = collect_unchecked();
  for (const Sampled& one : sampled) check_sampled(one);
  return sampled;
}

std::vector<Sampled> Decoder::collect_unchecked() {
  if (open_steps() == 0) throw std::logic_error("decoder: no open step");
  const std::int64_t slot = collected_ % max_ahead;
  const Marker& marker = markers_[static_cast<std::size_t>(slot)];
  if (parts_.tensor != nullptr) parts_.tensor->group.wait([&] { return marker.reached(); });
  marker.wait();
  ++collected_;
  const auto* row = reinterpret_cast<const Sampled*>(results_.get()) + slot * batch_;
  return {row, row + batch_};
}

View<const float, 2> Decoder::logits() {
  host_logits_.resize(static_cast<std::size_t>(batch_ * parts_.config.vocab_size));
  copy_to_host(parts_.exec, host_logits_.data(), logits_.data, host_logits_.size() * sizeof(float));
  return {host_logits_.data(), {batch_, parts_.config.vocab_size}};
}

std::size_t Decoder::bytes() const {
  std::size_t total = arena_.bytes();
  for (const Tensor& tensor : memory_) total += tensor.bytes();
  return total;
}

std::size_t decoder_bytes(const ModelConfig& config, const ModelOptions& options,
                          std::int64_t batch, std::int64_t capacity) {
  const auto bytes = [batch](std::int64_t columns, DType dtype) {
    return static_cast<std::size_t>(batch * columns) * bytes_of(dtype);
  };
  const std::int64_t q_size = config.attention_heads * config.attention_head_dim;
  const std::size_t common =
      bytes(config.hidden_size, options.residual_dtype) + bytes(config.vocab_size, DType::fp32);
  const std::size_t plain =
      bytes(config.hidden_size, options.dtype) + layer_arena_bytes(config, options.dtype, batch) +
      attention_step_arena_bytes(config, options.execution.attention, batch, capacity);
  std::size_t fused = bytes(config.intermediate_size + config.in_proj_size() + 2 * q_size +
                                2 * config.kv_heads * config.attention_head_dim,
                            options.dtype) +
                      bytes(config.inner_size() + config.mamba_heads, DType::fp32);
  for (const LayerKind kind : config.layers) {
    if (kind == LayerKind::attention)
      fused += attention_step_arena_bytes(config, options.execution.attention, batch, capacity);
  }
  // The slices of the longest rows meet in as many floats.
  fused += bytes(4 * config.hidden_size, DType::fp32);
  return common + (options.execution.fusion ? std::max(plain, fused) : plain);
}

}  // namespace chunkstate
