// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/linear/step_ring.cuh"

// What linear_step's finishing warps make of the sums.
namespace chunkstate::cuda::step {

inline constexpr int max_taps = 4;  // of the convolution, whose window a lane keeps in registers

/// The convolution of column c of y: silu(bias + weight * (window, value)), the window moved on.
__device__ inline float convolve(const LinearStepArgs& args, std::int64_t token,
                                 std::int64_t channel, float value) {
  const StepConvolution& conv = args.convolution;
  const auto past = static_cast<int>(conv.weight.extent[1] - 1);
  float sum =
      conv.bias.data != nullptr ? load_element(conv.bias.at(channel), conv.bias.dtype) : 0.0F;
  float entry[max_taps], weight[max_taps];
  with_type(conv.weight.dtype, [&](auto type) {
#pragma unroll
    for (int k = 0; k < max_taps; ++k) {
      if (k <= past) weight[k] = load_element(conv.weight.at(channel, k), type);
    }
  });
  with_type(conv.window.dtype, [&](auto type) {
#pragma unroll
    for (int k = 0; k < max_taps; ++k) {
      if (k <= past) {
        entry[k] = k < past ? load_element(conv.window.at(token, k, channel), type) : value;
      }
    }
  });
#pragma unroll
  for (int k = 0; k < max_taps; ++k) {
    if (k > past) continue;
    sum += weight[k] * entry[k];
    if (k > 0) store_element(conv.window.at(token, k - 1, channel), conv.window.dtype, entry[k]);
  }
  return silu(sum);
}

/// What happens to the sum of row `r` of a unit, all lanes of a warp together. `up`: silu_mul's
/// second sum.
template <StepSink sink>
__device__ void finish(const LinearStepArgs& args, int unit, int r, int token, bool valid,
                       float value, float up) {
  if constexpr (sink == StepSink::silu_mul) {
    const auto& product = args.products[0];
    const std::int64_t row = std::int64_t{unit} * tile_rows + r;
    if (!valid || row >= product.weight.extent[0]) return;
    store_element(product.y.at(token, row), product.y.dtype, silu(value) * up);
  } else {
    int p = 0;
    if constexpr (sink == StepSink::store) {
      const UnitOf at(args, unit);
      p = at.product;
      unit = at.unit;
    }
    const auto& product = args.products[p];
    const std::int64_t row = std::int64_t{unit} * tile_rows + r;
    valid = valid && row < product.weight.extent[0];
    float square = 0.0F;
    if (valid) {
      if (product.bias.data != nullptr)
        value += load_element(product.bias.at(row), product.bias.dtype);
      if constexpr (sink == StepSink::store || sink == StepSink::accumulate) value *= args.scale;
      std::byte* const y = product.y.at(token, row);
      if constexpr (sink == StepSink::accumulate) value += load_element(y, product.y.dtype);
      if constexpr (sink == StepSink::convolve) {
        const std::int64_t channel = row - args.convolution.first;
        if (channel >= 0 && channel < args.convolution.weight.extent[0]) {
          value = convolve(args, token, channel, value);
        }
      }
      value = rounded(product.y.dtype, value);
      store_element(y, product.y.dtype, value);
      square = value * value;
    }
    if constexpr (sink == StepSink::accumulate) {
#pragma unroll
      for (int step = tile_rows / 2; step > 0; step /= 2) {
        square += __shfl_xor_sync(full_warp, square, step);
      }
      if (args.squares_out.data != nullptr && r == 0 && token < args.x.extent[0]) {
        args.squares_out(token, unit) = square;
      }
    }
  }
}

/// A finishing warp: adds up the consumers' sums, then the slices', always in their order. The last
/// block to bring its slice of a unit adds the slices.
template <StepSink sink>
__device__ void finish_units(const LinearStepArgs& args, const Cut& cut, const Shared& shared,
                             const float* sums) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int values = static_cast<int>(args.x.extent[0]) * tile_rows;
  const int slice = static_cast<int>(blockIdx.x) % cut.slices;
  constexpr int sum_count = sink == StepSink::silu_mul ? 2 : 1;
  for (int task = static_cast<int>(threadIdx.x) / warp_size - consumer_warps - 1;;
       task += finishing_warps) {
    const int turn = task / cut.parts;
    const int part = task % cut.parts;
    const int buffer = turn % cut.sum_buffers;
    hopper::wait(shared.sums_full + buffer * 8, turn / cut.sum_buffers & 1);
    const int unit = shared.unit_of_sums[buffer];
    if (unit < 0) return;
    const int index = part * warp_size + lane;
    const bool valid = index < values;
    float value[sum_count] = {};
    if (valid) {
#pragma unroll
      for (int w = 0; w < consumer_warps; ++w) {
        value[w * sum_count / consumer_warps] +=
            sums[(buffer * consumer_warps + w) * values + index];
      }
    }
    hopper::arrive(shared.sums_empty + buffer * 8);

    if (cut.slices > 1) {
      float* const slices =
          args.partials.data + std::int64_t{unit} * cut.slices * sum_count * values;
      for (int k = 0; valid && k < sum_count; ++k) {
        __stcg(slices + (slice * sum_count + k) * values + index, value[k]);
      }
      __threadfence();
      __syncwarp();
      std::uint32_t* const counter = args.counters.data + unit * cut.parts + part;
      unsigned arrived = 0;
      if (lane == 0) arrived = atomicAdd(counter, 1U);
      arrived = __shfl_sync(full_warp, arrived, 0);
      if (arrived + 1 != static_cast<unsigned>(cut.slices)) continue;
      if (lane == 0) atomicExch(counter, 0U);
      __threadfence();
#pragma unroll
      for (int k = 0; k < sum_count; ++k) {
        value[k] = 0.0F;
        for (int s = 0; valid && s < cut.slices; ++s) {
          value[k] += __ldcg(slices + (s * sum_count + k) * values + index);
        }
      }
    }
    finish<sink>(args, unit, index % tile_rows, index / tile_rows, valid, value[0],
                 value[sum_count - 1]);
  }
}

}  // namespace chunkstate::cuda::step
