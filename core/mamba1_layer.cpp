// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "core/mamba1.hpp"
#include "core/trace.hpp"
#include "kernels/conv1d/conv1d.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/selective_scan/selective_scan.hpp"

namespace chunkstate {
namespace {

/// Sequences of one length that lie one after another, in the rows and in the state.
struct Run {
  std::int64_t first_sequence, first_row, batch, tokens;
};

std::vector<Run> equal_runs(const PackedTokens& packed) {
  std::vector<Run> runs;
  for (const auto& piece : packed.pieces) {
    if (!runs.empty() && runs.back().tokens == piece.tokens &&
        runs.back().first_sequence + runs.back().batch == piece.sequence) {
      ++runs.back().batch;
    } else {
      runs.push_back({piece.sequence, piece.first_row, 1, piece.tokens});
    }
  }
  // A decoder's steps have runs only.
  if (packed.pieces.empty()) {
    for (const auto& step : packed.step_runs) {
      runs.push_back({step.first_sequence, step.first_row, step.batch, 1});
    }
  }
  return runs;
}

/// A run's rows as [batch, tokens, columns].
template <class Byte>
BasicAnyView<Byte, 3> in_sequences(const BasicAnyView<Byte, 2>& rows, const Run& run) {
  const auto part = rows.slice(0, run.first_row, run.first_row + run.batch * run.tokens);
  return {part.data,
          part.dtype,
          {run.batch, run.tokens, rows.extent[1]},
          {run.tokens * rows.stride[0], rows.stride[0], rows.stride[1]}};
}

/// What a layer makes of its input, all [tokens, ...].
struct Activations {
  AnyView<2> x_and_z;     // [2 inner]
  AnyView<2> conv;        // [inner]
  AnyView<2> dt_B_and_C;  // [dt_rank + 2 state_dim]
  AnyView<2> dt;          // [inner]
  AnyView<2> scanned;     // [inner]
};

void convolve(const LayerContext& context, std::size_t layer, const Mamba1Weights& w,
              const Run& run, const Activations& a) {
  const AnyView<2> x = a.x_and_z.slice(1, 0, context.config.inner_size());
  const AnyView<3> windows = context.state.conv_window(layer);
  if (run.tokens == 1 && context.split == nullptr) {
    const std::int64_t end = run.first_row + run.batch;
    const std::int64_t last = run.first_sequence + run.batch;
    return conv1d_step(context.exec, {x.slice(0, run.first_row, end), w.conv, w.conv_bias,
                                      windows.slice(0, run.first_sequence, last),
                                      a.conv.slice(0, run.first_row, end)});
  }
  for (std::int64_t s = 0; s < run.batch; ++s) {
    const std::int64_t begin = run.first_row + s * run.tokens;
    const AnyView<2> rows = x.slice(0, begin, begin + run.tokens);
    const AnyView<2> window = windows[run.first_sequence + s];
    if (context.split != nullptr) context.split->exchange_window(context.exec, rows, window);
    conv1d(context.exec,
           {rows, w.conv, w.conv_bias, window, a.conv.slice(0, begin, begin + run.tokens)});
  }
}

void scan(const LayerContext& context, std::size_t layer, const Mamba1Weights& w, const Run& run,
          const Activations& a) {
  const ModelConfig& config = context.config;
  const SsdSettings& ssd = context.state.ssd();
  const std::int64_t inner = config.inner_size();
  const std::int64_t B = config.dt_rank;
  const std::int64_t C = B + config.state_dim;
  SelectiveScanArgs args;
  args.x = in_sequences(a.conv, run);
  args.dt = in_sequences(a.dt, run);
  args.B = in_sequences(a.dt_B_and_C.slice(1, B, C), run);
  args.C = in_sequences(a.dt_B_and_C.slice(1, C, C + config.state_dim), run);
  args.z = in_sequences(a.x_and_z.slice(1, inner, 2 * inner), run);
  args.A = w.A;
  args.dt_bias = w.dt_bias;
  args.D = w.D;
  args.y = in_sequences(a.scanned, run);
  args.chunk_size = ssd.chunk_size;
  // [batch, one slot, inner, one row, state_dim]
  const AnyView<5> states = context.state.ssd_state(layer);
  args.state = {states.at(run.first_sequence, 0, 0, 0, 0),
                states.dtype,
                {run.batch, inner, config.state_dim},
                {states.stride[0], states.stride[2], states.stride[4]}};
  const SelectiveScanVariant& variant = *find_selective_scan_variant(ssd.variant->name);
  const auto body = [&] { selective_scan(context.exec, variant, args); };
  if (context.split == nullptr) return body();
  context.split->scan(
      states[run.first_sequence], [](std::int64_t) { return true; }, body);
}

}  // namespace

void mamba1_layers(const LayerContext& context, const std::vector<Mamba1Weights>& layers,
                   AnyView<2> x, AnyView<2> residual) {
  if (layers.empty()) return;
  const ModelConfig& config = context.config;
  const Executor& exec = context.exec;
  const std::size_t mark = context.arena.mark();
  const auto take = [&](std::int64_t columns) {
    return context.arena.take<2>(context.dtype, {context.packed.tokens, columns});
  };
  const std::int64_t inner = config.inner_size();
  const Activations a{take(2 * inner), take(inner), take(config.dt_rank + 2 * config.state_dim),
                      take(inner), take(inner)};
  const AnyView<2> mixed = take(config.hidden_size);
  const std::vector<Run> runs = equal_runs(context.packed);

  for (std::size_t i = 0; i < layers.size(); ++i) {
    const TraceRegion region("mamba layer", TraceDetail::step);
    const Mamba1Weights& w = layers[i];
    if (context.split != nullptr) context.split->beat();
    RmsNormArgs norm{residual, w.norm, config.rms_norm_eps, x};
    if (i > 0) {  // what the layer before has made joins the residual in the same pass
      norm.add = mixed;
      norm.sum = residual;
    }
    rms_norm(exec, norm);
    linear(exec, {x, w.in_proj, w.in_proj_bias, a.x_and_z});
    for (const Run& run : runs) convolve(context, i, w, run, a);
    linear(exec, {a.conv, w.x_proj, {}, a.dt_B_and_C});
    linear(exec, {a.dt_B_and_C.slice(1, 0, config.dt_rank), w.dt_proj, {}, a.dt});
    for (const Run& run : runs) scan(context, i, w, run, a);
    const bool last = i + 1 == layers.size();
    linear(exec, {a.scanned, w.out_proj, w.out_proj_bias, last ? residual : mixed, last});
  }
  context.arena.release(mark);
}

std::size_t mamba1_arena_bytes(const ModelConfig& config, DType dtype, std::int64_t tokens) {
  if (config.dt_rank == 0) return 0;
  const auto bytes = [&](std::int64_t columns) { return Arena::padded(tokens * columns, dtype); };
  const std::int64_t inner = config.inner_size();
  return bytes(2 * inner) + 3 * bytes(inner) + bytes(config.dt_rank + 2 * config.state_dim) +
         bytes(config.hidden_size);
}

std::size_t mamba1_scratch_bytes(const ModelConfig& config, const SsdSettings& ssd,
                                 std::int64_t sequences, std::int64_t tokens) {
  const SelectiveScanVariant& variant = *find_selective_scan_variant(ssd.variant->name);
  if (variant.cuda_scratch == nullptr) return 0;
  SelectiveScanArgs args;  // sizes alone
  args.x.extent = {sequences, tokens, config.inner_size()};
  args.B.extent = {sequences, tokens, config.state_dim};
  args.chunk_size = ssd.chunk_size;
  return static_cast<std::size_t>(variant.cuda_scratch(args));
}

double mamba1_layer_flops(const ModelConfig& config) {
  const auto inner = static_cast<double>(config.inner_size());
  const auto hidden = static_cast<double>(config.hidden_size);
  const auto rank = static_cast<double>(config.dt_rank);
  const auto state = static_cast<double>(config.state_dim);
  const double products =
      hidden * 2.0 * inner + inner * (rank + 2.0 * state) + rank * inner + inner * hidden;
  // Per state element: the decay's exponent, what is written, the sum, the read-out.
  const double scan = inner * state * 6.0;
  return 2.0 * products + 2.0 * inner * static_cast<double>(config.conv_taps) + scan;
}

const SsdVariant* find_mamba1_variant(std::string_view name) {
  static const std::vector<SsdVariant> rows = [] {
    std::vector<SsdVariant> made;
    for (const SelectiveScanVariant& variant : selective_scan_variants()) {
      made.push_back({.name = variant.name,
                      .summary = variant.summary,
                      .semantics = SsdSemantics::exact,
                      .tolerance = variant.tolerance,
                      .cpu = nullptr,
                      .cuda = nullptr});
    }
    return made;
  }();
  if (name == "default_optimized") name = "fused_block";
  const auto found =
      std::find_if(rows.begin(), rows.end(), [&](const auto& row) { return row.name == name; });
  return found == rows.end() ? nullptr : &*found;
}

}  // namespace chunkstate
