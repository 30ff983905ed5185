// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/decoder.hpp"
#include "core/model.hpp"
#include "kernels/attention/attention.hpp"
#include "kernels/ssd/gated_step.hpp"

// The launches of a decode step of up to 8 sequences: per mamba layer five, per attention layer
// six. Each linear map normalises its input, whose sums of squares the kernel before it left. In a
// tensor split two more per layer add up the ranks' parts, and leave the squares.
namespace chunkstate {

LinearStepArgs Decoder::normed(const ConstAnyView<1>& norm) const {
  LinearStepArgs args;
  args.x = residual_;
  args.norm = norm;
  args.epsilon = parts_.config.rms_norm_eps;
  if (has_squares_) args.squares = squares_;
  return args;
}

LinearStepArgs Decoder::to_residual(const ConstAnyView<2>& x, const ConstAnyView<2>& weight,
                                    const ConstAnyView<1>& bias) const {
  LinearStepArgs args;
  args.x = x;
  args.scale = parts_.config.residual_multiplier;
  if (parts_.tensor != nullptr) {
    args.products[0] = {weight, bias, part_};
    return args;
  }
  args.sink = StepSink::accumulate;
  args.products[0] = {weight, bias, residual_};
  args.squares_out = squares_;
  return args;
}

void Decoder::add_to_residual(const LinearStepArgs& args) {
  add_linear(args);
  has_squares_ = true;
  if (parts_.tensor == nullptr) return;
  const TensorShare& share = parts_.tensor->share;
  PeerSumArgs sum;
  sum.peers = peer_blocks(parts_.tensor->group);
  sum.part = part_.as<float>();
  sum.y = residual_;
  sum.accumulate = true;
  sum.squares = squares_;
  // The norm over all ranks' channels costs no sum of its own: each rank norms its part by the mean
  // over its own channels, so that 16-bit inputs keep their range, and the sum makes up for it.
  if (args.norm && share.splits_norm) {
    sum.norm_squares = args.squares;
    sum.channels = args.x.extent[1];
    sum.all_channels = share.inner_channels;
    sum.epsilon = args.epsilon;
  }
  launches_.emplace_back([this, sum] { peer_sum(parts_.exec, sum); });
}

// Whether the ranks' blocks have room for a step's sums. A bias must not be scaled with its part.
bool Decoder::fits_peers() const {
  const PeerBlocks peers = peer_blocks(parts_.tensor->group);
  const auto& layers = parts_.weights.layers;
  return peer_sum_fits(peers, batch_, parts_.config.hidden_size) &&
         peer_gather_fits(parts_.tensor->logits_gather(logits_.as<float>())) &&
         std::none_of(layers.begin(), layers.end(), [](const LayerWeights& layer) {
           return layer.kind == LayerKind::mamba && layer.mamba.out_proj_bias;
         });
}

bool Decoder::fits_fused() const {
  const auto applies = [this](const AnyView<2>& x, const ConstAnyView<1>& norm,
                              std::initializer_list<ConstAnyView<2>> weights) {
    LinearStepArgs args;
    args.x = x;
    args.norm = norm;
    std::size_t count = 0;
    for (const ConstAnyView<2>& weight : weights) args.products[count++].weight = weight;
    args.convolution.weight.extent[1] = parts_.config.conv_taps;
    return linear_step_applies(args);
  };
  // Of these rows only the width and the alignment matter, which every buffer has.
  const auto row = [this](std::int64_t columns) {
    return AnyView<2>(residual_.data, parts_.options.dtype, {batch_, columns});
  };
  const Weights& weights = parts_.weights;
  // linear_step's norm has one mean, and mamba-1 layers have no fused form.
  if (parts_.config.norm_groups != 1 || !weights.mamba1_layers.empty()) return false;
  bool fits = applies(residual_, weights.final_norm, {weights.lm_head});
  for (const LayerWeights& layer : weights.layers) {
    if (layer.kind == LayerKind::mamba) {
      fits = fits && applies(residual_, layer.mixer_norm, {layer.mamba.in_proj}) &&
             applies(row(parts_.config.inner_size()), layer.mamba.norm, {layer.mamba.out_proj});
    } else {
      const AttentionWeights& w = layer.attention;
      fits = fits && applies(residual_, layer.mixer_norm, {w.q, w.k, w.v}) &&
             applies(row(w.o.extent[1]), {}, {w.o});
    }
    if (!parts_.config.has_mlp()) continue;
    fits = fits && applies(residual_, layer.mlp_norm, {layer.mlp.gate, layer.mlp.up}) &&
           applies(row(parts_.config.intermediate_size), {}, {layer.mlp.down});
  }
  return fits;
}

void Decoder::add_linear(const LinearStepArgs& args) {
  linears_.push_back(args);
  launches_.emplace_back(
      [this, index = linears_.size() - 1] { linear_step(parts_.exec, linears_[index]); });
}

void Decoder::build_fused(SequenceState& state) {
  const ModelConfig& config = parts_.config;
  const DType dtype = parts_.options.dtype;
  const std::int64_t kv_size = config.kv_heads * config.attention_head_dim;
  const auto has = [&](LayerKind kind) {
    return std::find(config.layers.begin(), config.layers.end(), kind) != config.layers.end();
  };
  if (parts_.tensor != nullptr) {
    squares_ = buffer(DType::fp32, peer_sum_parts(config.hidden_size)).as<float>();
    part_ = buffer(DType::fp32, config.hidden_size);
  } else {
    squares_ = buffer(DType::fp32, (config.hidden_size + 15) / 16).as<float>();
  }
  activated_ = buffer(dtype, config.intermediate_size);
  if (has(LayerKind::mamba)) {
    projected_ = buffer(dtype, config.in_proj_size());
    gated_ = buffer(DType::fp32, config.inner_size());
    gate_squares_ = buffer(DType::fp32, config.mamba_heads).as<float>();
  }
  if (has(LayerKind::attention)) {
    q_ = buffer(dtype, config.attention_heads * config.attention_head_dim);
    attended_ = buffer(dtype, config.attention_heads * config.attention_head_dim);
    k_ = buffer(dtype, kv_size);
    v_ = buffer(dtype, kv_size);
  }

  for (std::size_t i = 0; i < parts_.weights.layers.size(); ++i) {
    if (parts_.weights.layers[i].kind == LayerKind::mamba) {
      add_fused_mamba(state, i);
    } else {
      add_fused_attention(state, i);
    }
    if (config.has_mlp()) add_fused_mlp(i);
  }
  LinearStepArgs head = normed(parts_.weights.final_norm);
  head.scale = config.logits_multiplier;
  const bool is_whole = parts_.tensor == nullptr;
  const Range own = is_whole ? Range{0, config.vocab_size} : parts_.tensor->share.vocab;
  head.products[0] = {parts_.weights.lm_head, {}, logits_.slice(1, own.begin, own.end)};
  add_linear(head);
  if (!is_whole) {
    const PeerGatherArgs gather = parts_.tensor->logits_gather(logits_.as<float>());
    launches_.emplace_back([this, gather] { peer_gather(parts_.exec, gather); });
  }

  std::int64_t counters = 0, partials = 0;
  for (const LinearStepArgs& args : linears_) {
    counters += linear_step_counters(args);
    partials = std::max(partials, linear_step_partials(args));
  }
  auto* counter = numbers<std::uint32_t>(counters).data;
  const View<float, 1> shared_partials = numbers<float>(partials);
  for (LinearStepArgs& args : linears_) {
    args.counters = {counter, {linear_step_counters(args)}};
    args.partials = shared_partials;
    counter += args.counters.extent[0];
  }
}

void Decoder::add_fused_mamba(SequenceState& state, std::size_t index) {
  const ModelConfig& config = parts_.config;
  const LayerWeights& layer = parts_.weights.layers[index];
  const MambaWeights& w = layer.mamba;
  LinearStepArgs in = normed(layer.mixer_norm);
  in.sink = StepSink::convolve;
  in.products[0] = {w.in_proj, w.in_proj_bias, projected_};
  in.convolution = {config.inner_size(), w.conv, w.conv_bias, state.conv_window(index)};
  add_linear(in);

  const std::int64_t x = config.inner_size();
  const std::int64_t B = 2 * x;
  const std::int64_t C = B + config.groups * config.state_dim;
  const std::int64_t dt = C + config.groups * config.state_dim;
  const auto heads = [&](const AnyView<2>& rows) {
    return split_last(rows, config.mamba_heads, config.mamba_head_dim);
  };
  SsdGatedStepArgs args;
  args.z = heads(projected_.slice(1, 0, x));
  args.step.x = heads(projected_.slice(1, x, B));
  args.step.B = split_last(projected_.slice(1, B, C), config.groups, config.state_dim);
  args.step.C = split_last(projected_.slice(1, C, dt), config.groups, config.state_dim);
  args.step.dt = projected_.slice(1, dt, dt + config.mamba_heads);
  args.step.A = w.A;
  args.step.dt_bias = w.dt_bias;
  args.step.D = w.D;
  args.step.dt_min = config.dt_min;
  args.step.dt_max = config.dt_max;
  args.step.y = heads(gated_);
  args.step.state = state.ssd_state(index);
  args.step.positions = positions_;
  args.step.chunk_size = state.ssd().chunk_size;
  args.squares = gate_squares_;
  launches_.emplace_back(
      [this, args, variant = state.ssd().variant] { ssd_gated_step(parts_.exec, *variant, args); });

  LinearStepArgs out = to_residual(gated_, w.out_proj, w.out_proj_bias);
  out.norm = w.norm;
  out.squares = gate_squares_;
  out.epsilon = config.rms_norm_eps;
  add_to_residual(out);
}

void Decoder::add_fused_attention(SequenceState& state, std::size_t index) {
  const ModelConfig& config = parts_.config;
  const LayerWeights& layer = parts_.weights.layers[index];
  const AttentionWeights& w = layer.attention;
  LinearStepArgs in = normed(layer.mixer_norm);
  in.products = {LinearProduct{w.q, {}, q_}, LinearProduct{w.k, {}, k_},
                 LinearProduct{w.v, {}, v_}};
  add_linear(in);

  const std::int64_t head_dim = config.attention_head_dim;
  AttentionAppendStepArgs args;
  args.k = state.keys(index);
  args.v = state.values(index);
  args.step.q = split_last(q_, config.attention_heads, head_dim);
  args.step.k = args.k;
  args.step.v = args.v;
  args.step.lengths = lengths_;
  args.step.scale = config.attention_scale();
  args.step.choice = parts_.options.execution.attention;
  args.step.y = split_last(attended_, config.attention_heads, head_dim);
  args.new_k = split_last(k_, config.kv_heads, head_dim);
  args.new_v = split_last(v_, config.kv_heads, head_dim);
  args.inverse_frequency = parts_.inverse_frequency;
  args.partials = numbers<float>(attention_step_partials(args.step));
  launches_.emplace_back([this, args] { attention_append_step(parts_.exec, args); });

  add_to_residual(to_residual(attended_, w.o, {}));
}

void Decoder::add_fused_mlp(std::size_t index) {
  const LayerWeights& layer = parts_.weights.layers[index];
  LinearStepArgs in = normed(layer.mlp_norm);
  in.sink = StepSink::silu_mul;
  in.products[0] = {layer.mlp.gate, {}, activated_};
  in.products[1] = {layer.mlp.up, {}, {}};
  add_linear(in);
  add_to_residual(to_residual(activated_, layer.mlp.down, {}));
}

}  // namespace chunkstate
