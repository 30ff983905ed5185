// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/tile_steps.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/base/tile_elements.hpp"
#include "kernels/ssd/decay.hpp"
#include "kernels/ssd/tile_decay.hpp"

namespace chunkstate::cpu {
namespace {

std::int64_t panels_of(std::int64_t count) { return (count + panel_width - 1) / panel_width; }

const bf16* bf16_at(const ConstAnyView<3>& view, std::int64_t token, std::int64_t part) {
  return reinterpret_cast<const bf16*>(view.at(token, part, 0));
}

/// Panels of `depth` k as floats.
std::int64_t panel_floats(std::int64_t depth) { return panel_elements(depth) / 2; }

}  // namespace

bool tile_scan_applies(const SsdArgs& args) {
  const bool inputs =
      args.x.dtype == DType::bf16 && args.B.dtype == DType::bf16 && args.C.dtype == DType::bf16;
  return inputs && args.y.dtype != DType::fp16 && has_bf16_tiles();
}

void prepare_tiles(const SsdArgs& args, const SsdBlock& block, std::int64_t index, std::int64_t g,
                   const SsdShared& shared, Scratch& scratch) {
  const std::int64_t state_dim = args.B.extent[2];
  const std::int64_t bands = panels_of(block.length);
  bf16* const C_rows = shared.C_rows_of(g, index);
  bf16* const B_turned = shared.B_turned_of(g, index);
  bf16* const B_columns = reinterpret_cast<bf16*>(scratch.floats(bands * panel_floats(state_dim)));
  float* const scores = shared.scores_of(g, index);
  for (std::int64_t band = 0; band < bands; ++band) {
    const std::int64_t first = band * panel_width;
    const std::int64_t rows = std::min(panel_width, block.length - first);
    const std::int64_t token = block.begin + first;
    bf16* const C = C_rows + band * panel_elements(state_dim);
    pack_rows(bf16_at(args.C, token, g), args.C.stride[0], rows, state_dim, C);
    pack_columns(bf16_at(args.B, token, g), args.B.stride[0], rows, state_dim,
                 B_columns + band * panel_elements(state_dim));
    for (std::int64_t column = 0; column <= band; ++column) {
      multiply_panels({.a = C,
                       .b = B_columns + column * panel_elements(state_dim),
                       .rows = rows,
                       .depth_tiles = panels_of(state_dim),
                       .sums = scores + (band * bands + column) * panel_sums});
    }
  }
  // Turning pairs of tokens turns the matrix: k, the tokens, become neighbours.
  pack_pairs(bf16_at(args.B, block.begin, g), args.B.stride[0], block.length, state_dim, B_turned);
  const std::int64_t words = panels_of(state_dim) * panel_floats(block.length);
  alignas(64) float turned[256];
  for (std::int64_t i = 0; i < words; i += 256) {
    float* const tile = reinterpret_cast<float*>(B_turned) + i;
    turn_sums(tile, turned);
    std::copy_n(turned, 256, tile);
  }
}

std::int64_t TileSteps::floats(const SsdArgs& args, std::int64_t longest) {
  const std::int64_t columns = panels_of(args.x.extent[2]);
  const std::int64_t length = panels_of(longest) * panel_width;
  return 2 * columns * panel_floats(longest) + columns * panel_floats(args.B.extent[2]) +
         panel_floats(longest) + columns * panel_sums + 5 * length;
}

TileSteps::TileSteps(const SsdArgs& args, const SsdShared& shared, std::int64_t h,
                     std::int64_t longest, HeadStates& states, float* memory)
    : args_(args),
      shared_(shared),
      h_(h),
      g_(h / (args.x.extent[1] / args.B.extent[1])),
      head_dim_(args.x.extent[2]),
      column_panels_(panels_of(head_dim_)),
      state_panels_(panels_of(args.B.extent[2])),
      states_(states) {
  const auto take = [&memory](std::int64_t count) {
    float* const begin = memory;
    memory += count;
    return begin;
  };
  const auto take_panels = [&](std::int64_t count, std::int64_t depth) {
    return reinterpret_cast<bf16*>(take(count * panel_floats(depth)));
  };
  const std::int64_t length = panels_of(longest) * panel_width;
  x_ = take_panels(column_panels_, longest);
  weighted_ = take_panels(column_panels_, longest);
  state_ = take_panels(column_panels_, args.B.extent[2]);
  masked_ = take_panels(1, longest);
  y_ = take(column_panels_ * panel_sums);
  lambda_ = reinterpret_cast<double*>(take(2 * length));
  delta_ = take(length);
  decay_ = take(length);
  weight_ = take(length);
}

void TileSteps::load_x(const SsdBlock& block) {
  pack_pairs(bf16_at(args_.x, block.begin, h_), args_.x.stride[0], block.length, head_dim_, x_);
  // As FloatSteps does: a head's rows lie tokens apart.
  const std::int64_t end = block.begin + block.length;
  const std::int64_t next = std::min(end + block.length, args_.x.extent[0]);
  for (std::int64_t t = end; t < next; ++t) {
    const bf16* const row = bf16_at(args_.x, t, h_);
    for (std::int64_t p = 0; p < head_dim_; p += 32) __builtin_prefetch(row + p);
  }
  const std::int64_t place = h_ * shared_.tokens + block.begin;
  const std::int64_t length = panels_of(block.length) * panel_width;
  std::copy_n(shared_.lambda + place, block.length, lambda_);
  std::copy_n(shared_.delta + place, block.length, delta_);
  std::fill(lambda_ + block.length, lambda_ + length, lambda_[block.length - 1]);
  std::fill(delta_ + block.length, delta_ + length, 0.0F);
  tile_factors(lambda_, delta_, length, decay_, weight_);
}

void TileSteps::output(const SsdBlock& block, std::int64_t index, const float* start) {
  for (std::int64_t n = 0; n < state_panels_ && start != nullptr; ++n) {
    for (std::int64_t p = 0; p < column_panels_; ++p) {
      pack_sums(start + (n * column_panels_ + p) * panel_sums,
                state_ + (p * state_panels_ + n) * panel_elements(1));
    }
  }
  for (std::int64_t band = 0; band < panels_of(block.length); ++band) {
    output_band(block, index, band, start != nullptr);
  }
}

void TileSteps::output_band(const SsdBlock& block, std::int64_t index, std::int64_t band,
                            bool reads_state) {
  const std::int64_t bands = panels_of(block.length);
  const std::int64_t first = band * panel_width;
  const std::int64_t rows = std::min(panel_width, block.length - first);
  PanelProduct product;
  product.rows = rows;
  if (reads_state) {
    product.a = shared_.C_rows_of(g_, index) + band * state_panels_ * panel_elements(1);
    product.depth_tiles = state_panels_;
    for (std::int64_t p = 0; p < column_panels_; ++p) {
      product.b = state_ + p * state_panels_ * panel_elements(1);
      product.sums = y_ + p * panel_sums;
      multiply_panels(product);
    }
    scale_sums(decay_ + first, column_panels_, y_);
  }
  masked_tiles(shared_.scores_of(g_, index) + band * bands * panel_sums, lambda_, delta_,
               args_.D(h_), band, masked_);
  product.a = masked_;
  product.depth_tiles = band + 1;
  product.accumulate = reads_state;
  for (std::int64_t p = 0; p < column_panels_; ++p) {
    product.b = x_ + p * panel_elements(block.length);
    product.sums = y_ + p * panel_sums;
    multiply_panels(product);
  }
  store_sums(y_, rows, head_dim_, nullptr, args_.y.at(block.begin + first, h_, 0),
             args_.y.stride[0], args_.y.dtype);
}

void TileSteps::update(const SsdBlock& block, std::int64_t index) {
  const std::int64_t bands = panels_of(block.length);
  weigh_pairs(x_, column_panels_, bands, weight_, weighted_);
  float* const open = states_.open();
  if (!states_.open_is_zero()) {
    const auto decay = static_cast<float>(std::exp(lambda_[block.length - 1]));
    add_scaled(decay, open, states_.elements(), true, open);
  }
  PanelProduct product;
  product.depth_tiles = bands;
  product.accumulate = !states_.open_is_zero();
  for (std::int64_t n = 0; n < state_panels_; ++n) {
    product.a = shared_.B_turned_of(g_, index) + n * panel_elements(block.length);
    for (std::int64_t p = 0; p < column_panels_; ++p) {
      product.b = weighted_ + p * panel_elements(block.length);
      product.sums = open + (n * column_panels_ + p) * panel_sums;
      multiply_panels(product);
    }
  }
  states_.set_open_is_zero(false);
}

}  // namespace chunkstate::cpu
