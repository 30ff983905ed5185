// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear/tile_linear.hpp"

#include <algorithm>

#include "kernels/base/bf16_tiles.hpp"
#include "kernels/base/rows.hpp"
#include "kernels/linear/tile_finish.hpp"

namespace chunkstate::cpu {
namespace {

constexpr std::int64_t parts(std::int64_t count, std::int64_t part) {
  return (count + part - 1) / part;
}

/// The tokens [first, first + tokens) of a pass, packed: [depth block][panel][panel_elements].
struct PackedTokens {
  std::int64_t first = 0;
  std::int64_t tokens = 0;
  bf16* data = nullptr;
  bool turned = false;  // as panels b, not a

  std::int64_t panels() const { return parts(tokens, panel_width); }
  std::int64_t panel_tokens(std::int64_t panel) const {
    return std::min(panel_width, tokens - panel * panel_width);
  }
  /// Panel `panel` of inputs [k, k + depth); k is a multiple of tile_depth.
  bf16* at(std::int64_t k, std::int64_t depth, std::int64_t panel) const {
    return data + k * panels() * panel_width + panel * panel_elements(depth);
  }
};

const bf16* weights_at(const LinearArgs& args, std::int64_t output, std::int64_t k) {
  return reinterpret_cast<const bf16*>(args.weight.at(output, k));
}

/// One thread's part of the products: outputs [begin, end) of a pass's tokens.
class OutputBlock {
 public:
  OutputBlock(const LinearArgs& args, const TileBlocking& blocking, const PackedTokens& x,
              std::int64_t begin, std::int64_t end, Scratch& scratch)
      : args_(args), blocking_(blocking), x_(x), begin_(begin), end_(end) {
    const std::int64_t in_features = args.x.extent[1];
    const std::int64_t columns = in_features > blocking.depth ? parts(end - begin, panel_width) : 1;
    const std::int64_t rows = in_features > blocking.depth ? x.panels() : 1;
    const std::int64_t weights = panel_elements(blocking.depth) / 2;  // as floats
    float* const memory = scratch.floats(weights + rows * columns * panel_sums);
    weights_ = reinterpret_cast<bf16*>(memory);
    sums_ = memory + weights;
    sums_count_ = rows * columns;
  }

  void run() {
    for (Place here = place(0, begin_); here.outputs > 0; here = after(here)) {
      multiply_column_panel(here);
    }
  }

 private:
  /// A panel of weights: outputs [output, output + outputs) of inputs [k, k + depth).
  struct Place {
    std::int64_t k, depth, output, outputs;  // outputs 0: there is none
  };

  Place place(std::int64_t k, std::int64_t output) const {
    const std::int64_t depth = std::min(blocking_.depth, args_.x.extent[1] - k);
    return {k, depth, output, depth > 0 ? std::min(panel_width, end_ - output) : 0};
  }
  Place after(const Place& here) const {
    if (here.output + panel_width < end_) return place(here.k, here.output + panel_width);
    return place(here.k + here.depth, begin_);
  }

  void pack(const Place& here) {
    (x_.turned ? pack_rows : pack_columns)(weights_at(args_, here.output, here.k),
                                           args_.weight.stride[0], here.outputs, here.depth,
                                           weights_);
  }

  /// Weights and x that the second cache should hold next.
  void look_ahead(const Place& here, std::int64_t panel, PanelProduct& product) const {
    const std::int64_t panels = x_.panels();
    const Place next = after(here);
    const std::int64_t share = parts(panel_width, panels);
    product.ahead_count = std::clamp<std::int64_t>(next.outputs - panel * share, 0, share);
    if (product.ahead_count > 0) {
      product.ahead = weights_at(args_, next.output + panel * share, next.k);
      product.ahead_row = args_.weight.stride[0];
    }
    const std::int64_t in_features = args_.x.extent[1];
    const std::int64_t column = (here.output - begin_) / panel_width;
    const std::int64_t columns = parts(end_ - begin_, panel_width);
    const bool last = here.k + here.depth == in_features;
    const std::int64_t lines = !last && panels > 1 ? parts(panel_width, columns) : 0;
    const std::int64_t line = (column * panels + panel) * lines * product.depth_tiles;
    const bool inside = line + lines * product.depth_tiles <=
                        panels * panel_width * (in_features - here.k - here.depth) / tile_depth;
    product.ahead_lines = inside ? x_.at(here.k + here.depth, 0, 0) + line * tile_depth : nullptr;
    product.ahead_lines_count = inside ? lines : 0;
  }

  /// Where all inputs are taken at once, every product has the same place.
  float* sums_of(std::int64_t product) const { return sums_ + product % sums_count_ * panel_sums; }

  void multiply_column_panel(const Place& here) {
    pack(here);
    const std::int64_t column = (here.output - begin_) / panel_width;
    PanelProduct product;
    product.b_streams = x_.turned;
    product.depth_tiles = parts(here.depth, tile_depth);
    product.accumulate = here.k > 0;
    product.next_sums_lines = sums_count_ > 1 ? parts(panel_sums / 16, product.depth_tiles) : 0;
    for (std::int64_t panel = 0; panel < x_.panels(); ++panel) {
      look_ahead(here, panel, product);
      const bf16* const x = x_.at(here.k, here.depth, panel);
      const std::int64_t tokens = x_.panel_tokens(panel);
      product.a = x_.turned ? weights_ : x;
      product.b = x_.turned ? x : weights_;
      product.rows = x_.turned ? here.outputs : tokens;
      const std::int64_t index = column * x_.panels() + panel;
      product.sums = sums_of(index);
      product.next_sums = sums_of(index + 1);
      multiply_panels(product);
      if (here.k + here.depth == args_.x.extent[1]) {
        finish_block(args_, x_.first + panel * panel_width, tokens, here.output, x_.turned,
                     product.sums);
      }
    }
  }

  const LinearArgs& args_;
  const TileBlocking& blocking_;
  const PackedTokens& x_;
  const std::int64_t begin_, end_;
  bf16* weights_;
  float* sums_;
  std::int64_t sums_count_;
};

/// Pairing the elements of a tile costs about three times as much as copying it, for every weight
/// and pass, or else for every element of x; turning the sums costs as much again.
bool turning_pays(std::int64_t pass_tokens, std::int64_t in_features, std::int64_t outputs) {
  return 1.0 / static_cast<double>(pass_tokens) >
         3.0 / static_cast<double>(in_features) + 1.0 / static_cast<double>(outputs);
}

void pack_tokens(const ConstAnyView<2>& stored, const PackedTokens& x, std::int64_t panel,
                 std::int64_t block_depth) {
  const std::int64_t in_features = stored.extent[1];
  for (std::int64_t k = 0; k < in_features; k += block_depth) {
    const std::int64_t depth = std::min(block_depth, in_features - k);
    const std::byte* const from = stored.at(x.first + panel * panel_width, k);
    (x.turned ? pack_columns : pack_rows)(reinterpret_cast<const bf16*>(from), stored.stride[0],
                                          x.panel_tokens(panel), depth, x.at(k, depth, panel));
  }
}

/// Outputs of a unit of work: so many that every thread gets several units.
std::int64_t unit_outputs(std::int64_t outputs, std::int64_t passes, std::int64_t most,
                          int threads) {
  constexpr std::int64_t units_per_thread = 4;
  const std::int64_t wanted = parts(units_per_thread * threads, passes);
  const std::int64_t even = parts(parts(outputs, wanted), panel_width) * panel_width;
  return threads == 1 ? most : std::min(most, even);
}

}  // namespace

bool tile_linear_applies(const LinearArgs& args) {
  const auto fits = [](DType dtype) { return dtype == DType::fp32 || dtype == DType::bf16; };
  return args.x.dtype == DType::bf16 && args.weight.dtype == DType::bf16 && fits(args.y.dtype) &&
         (!args.bias || fits(args.bias.dtype)) && args.x.extent[1] > 0 && has_bf16_tiles();
}

void tile_linear(const Executor& exec, std::span<const LinearArgs> products,
                 const TileBlocking& blocking) {
  // Bounds the packed copy of x.
  constexpr std::int64_t most_tokens = 4096;
  const ConstAnyView<2>& stored = products[0].x;
  const std::int64_t all = stored.extent[0];
  const std::int64_t in_features = stored.extent[1];
  const std::int64_t padded_depth = parts(in_features, tile_depth) * tile_depth;
  std::int64_t outputs = 0;
  for (const LinearArgs& args : products) outputs += args.weight.extent[0];
  thread_local Scratch shared;
  for (std::int64_t begin = 0; begin < all; begin += most_tokens) {
    const std::int64_t tokens = std::min(most_tokens, all - begin);
    const std::int64_t passes = parts(tokens, blocking.tokens);
    const std::int64_t pass_tokens = parts(parts(tokens, passes), panel_width) * panel_width;
    const bool turned = blocking.turned.value_or(turning_pays(pass_tokens, in_features, outputs));
    bf16* const packed =
        reinterpret_cast<bf16*>(shared.floats((tokens + panel_width) * padded_depth / 2));
    const auto pass = [&](std::int64_t index) {
      PackedTokens x;
      x.first = begin + index * pass_tokens;
      x.tokens = std::min(pass_tokens, begin + tokens - x.first);
      x.data = packed + index * pass_tokens * padded_depth;
      x.turned = turned;
      return x;
    };
    const std::int64_t unit = unit_outputs(outputs, passes, blocking.outputs, exec.threads);
    std::int64_t units = 0;
    for (const LinearArgs& args : products) units += parts(args.weight.extent[0], unit);
    const std::int64_t panels = pass_tokens / panel_width;
#pragma omp parallel num_threads(exec.threads)
    {
      thread_local Scratch scratch;
      const TileScope scope;
#pragma omp for collapse(2)
      for (std::int64_t p = 0; p < passes; ++p) {
        for (std::int64_t panel = 0; panel < panels; ++panel) {
          const PackedTokens x = pass(p);
          if (panel < x.panels()) pack_tokens(stored, x, panel, blocking.depth);
        }
      }
#pragma omp for collapse(2) schedule(dynamic)
      for (std::int64_t p = 0; p < passes; ++p) {
        for (std::int64_t u = 0; u < units; ++u) {
          std::int64_t in_product = u;
          const LinearArgs* args = products.data();
          while (in_product >= parts(args->weight.extent[0], unit)) {
            in_product -= parts(args->weight.extent[0], unit);
            ++args;
          }
          const PackedTokens x = pass(p);
          const std::int64_t last = std::min((in_product + 1) * unit, args->weight.extent[0]);
          OutputBlock(*args, blocking, x, in_product * unit, last, scratch).run();
        }
      }
    }
  }
}

}  // namespace chunkstate::cpu
