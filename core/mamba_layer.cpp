// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/layers.hpp"
#include "core/mamba1.hpp"
#include "kernels/conv1d/conv1d.hpp"
#include "kernels/gated_rms_norm/gated_rms_norm.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/ssd/ssd.hpp"

namespace chunkstate {
namespace {

// The columns of in_proj's output, and what the convolution makes of three of them.
struct Projected {
  AnyView<2> z;    // [tokens, inner]
  AnyView<2> xBC;  // [tokens, inner + 2 groups state_dim]
  AnyView<2> dt;   // [tokens, heads]
};

Projected split_projection(const ModelConfig& config, const AnyView<2>& projected) {
  const std::int64_t xBC = config.inner_size();
  const std::int64_t dt = xBC + config.conv_channels();
  return {projected.slice(1, 0, xBC), projected.slice(1, xBC, dt),
          projected.slice(1, dt, dt + config.mamba_heads)};
}

struct ConvOutput {
  AnyView<3> x;  // [tokens, heads, head_dim]
  AnyView<3> B;  // [tokens, groups, state_dim]
  AnyView<3> C;
};

ConvOutput split_conv(const ModelConfig& config, const AnyView<2>& conv) {
  const std::int64_t B = config.inner_size();
  const std::int64_t C = B + config.groups * config.state_dim;
  return {split_last(conv.slice(1, 0, B), config.mamba_heads, config.mamba_head_dim),
          split_last(conv.slice(1, B, C), config.groups, config.state_dim),
          split_last(conv.slice(1, C, config.conv_channels()), config.groups, config.state_dim)};
}

// What a scan over many tokens and a step of a batch have in common, for the rows [begin, end).
template <class Args>
Args scan_args(const ModelConfig& config, const MambaWeights& w, const Projected& projected,
               const AnyView<2>& conv_rows, const AnyView<2>& scanned, std::int64_t begin,
               std::int64_t end) {
  const ConvOutput out = split_conv(config, conv_rows);
  Args args;
  args.x = out.x;
  args.dt = projected.dt.slice(0, begin, end);
  args.B = out.B;
  args.C = out.C;
  args.A = w.A;
  args.dt_bias = w.dt_bias;
  args.D = w.D;
  args.dt_min = config.dt_min;
  args.dt_max = config.dt_max;
  args.y = split_last(scanned.slice(0, begin, end), config.mamba_heads, config.mamba_head_dim);
  return args;
}

// Whether a token at `position` or later depends on the state before it.
bool state_crosses(const SsdSettings& ssd, std::int64_t position) {
  const SsdSemantics semantics = ssd.variant->semantics;
  if (semantics == SsdSemantics::exact || semantics == SsdSemantics::lookback) return true;
  return semantics == SsdSemantics::independent && position % ssd.chunk_size != 0;
}

// Many tokens of one sequence.
void scan_piece(const LayerContext& context, std::size_t layer, const MambaWeights& w,
                const PackedTokens::Piece& piece, const Projected& projected,
                const AnyView<2>& conv, const AnyView<2>& scanned) {
  const ModelConfig& config = context.config;
  const std::int64_t begin = piece.first_row;
  const std::int64_t end = begin + piece.tokens;
  const AnyView<2> conv_rows = conv.slice(0, begin, end);
  const AnyView<2> xBC = projected.xBC.slice(0, begin, end);
  const AnyView<2> window = context.state.conv_window(layer)[piece.sequence];

  if (context.split != nullptr) context.split->exchange_window(context.exec, xBC, window);
  conv1d(context.exec, {xBC, w.conv, w.conv_bias, window, conv_rows});

  const SsdSettings& ssd = context.state.ssd();
  auto args = scan_args<SsdArgs>(config, w, projected, conv_rows, scanned, begin, end);
  args.state = context.state.ssd_state(layer)[piece.sequence];
  args.first_position = piece.first_position;
  args.chunk_size = ssd.chunk_size;
  args.lookback = ssd.lookback;
  const auto scan = [&] { ssd_scan(context.exec, *ssd.variant, args); };
  if (context.split == nullptr) return scan();
  context.split->scan(
      args.state, [&](std::int64_t at) { return state_crosses(ssd, at); }, scan);
}

// One token of each of several sequences.
void scan_step(const LayerContext& context, std::size_t layer, const MambaWeights& w,
               const PackedTokens::StepRun& run, const Projected& projected, const AnyView<2>& conv,
               const AnyView<2>& scanned) {
  const ModelConfig& config = context.config;
  const std::int64_t begin = run.first_row;
  const std::int64_t end = begin + run.batch;
  const std::int64_t first = run.first_sequence;
  const AnyView<2> conv_rows = conv.slice(0, begin, end);

  conv1d_step(context.exec,
              {projected.xBC.slice(0, begin, end), w.conv, w.conv_bias,
               context.state.conv_window(layer).slice(0, first, first + run.batch), conv_rows});

  auto args = scan_args<SsdStepArgs>(config, w, projected, conv_rows, scanned, begin, end);
  args.state = context.state.ssd_state(layer).slice(0, first, first + run.batch);
  args.positions = {context.packed.positions.data + begin, {run.batch}};
  args.chunk_size = context.state.ssd().chunk_size;
  ssd_step(context.exec, *context.state.ssd().variant, args);
}

}  // namespace

std::size_t scan_scratch_bytes(const ModelConfig& config, DType dtype, const SsdSettings& ssd,
                               std::int64_t sequences, std::int64_t tokens) {
  if (config.dt_rank > 0) return mamba1_scratch_bytes(config, ssd, sequences, tokens);
  const bool scans = std::find(config.layers.begin(), config.layers.end(), LayerKind::mamba) !=
                     config.layers.end();
  if (!scans || ssd.variant->cuda_scratch == nullptr) return 0;
  SsdArgs args;  // sizes alone
  args.x.dtype = dtype;
  args.x.extent = {tokens, config.mamba_heads, config.mamba_head_dim};
  args.B.extent = {tokens, config.groups, config.state_dim};
  args.chunk_size = ssd.chunk_size;
  args.lookback = ssd.lookback;
  return static_cast<std::size_t>(ssd.variant->cuda_scratch(args));
}

void mamba_layer(const LayerContext& context, std::size_t layer, const MambaWeights& weights,
                 ConstAnyView<2> x, AnyView<2> residual) {
  const ModelConfig& config = context.config;
  const std::int64_t tokens = context.packed.tokens;
  const std::size_t mark = context.arena.mark();
  const auto all = context.arena.take<2>(context.dtype, {tokens, config.in_proj_size()});
  const auto conv = context.arena.take<2>(context.dtype, {tokens, config.conv_channels()});
  const auto scanned = context.arena.take<2>(context.dtype, {tokens, config.inner_size()});

  linear(context.exec, {x, weights.in_proj, weights.in_proj_bias, all});  // z | x | B | C | dt
  const Projected projected = split_projection(config, all);
  for (const auto& run : context.packed.step_runs) {
    scan_step(context, layer, weights, run, projected, conv, scanned);
  }
  if (context.packed.step_runs.empty()) {
    for (const auto& piece : context.packed.pieces) {
      scan_piece(context, layer, weights, piece, projected, conv, scanned);
    }
  }
  GatedRmsNormArgs norm{scanned, projected.z,       weights.norm, config.rms_norm_eps,
                        scanned, config.norm_groups};
  if (context.tensor != nullptr && context.tensor->share.splits_norm) {
    norm.squares = context.arena.take<1>(DType::fp32, {tokens}).as<float>();
    norm.squares_channels = context.tensor->share.inner_channels;
    gated_squares(context.exec, norm);
    context.tensor->sum(context.exec, norm.squares);
  }
  gated_rms_norm(context.exec, norm);
  add_to_residual(context, scanned, weights.out_proj, weights.out_proj_bias, residual);
  context.arena.release(mark);
}

}  // namespace chunkstate
