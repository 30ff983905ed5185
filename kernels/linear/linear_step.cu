// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/base/cuda_check.cuh"
#include "kernels/linear/step_ring.cuh"

namespace chunkstate::cuda {
namespace {

using namespace step;

constexpr int vector = 8;
constexpr int vectors_per_thread = max_slice_columns / vector / consumers;
constexpr int max_taps = 4;  // of the convolution, whose window a lane keeps in registers

__device__ __forceinline__ void wait_for_consumers() {
  asm volatile("bar.sync 1, %0;" ::"n"(consumers) : "memory");
}

/// 1 / sqrt(mean of x^2 + epsilon) of token `token`, by one warp.
__device__ float norm_scale(const LinearStepArgs& args, int token) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  float sum = 0.0F;
  if (args.squares.data != nullptr) {
    for (std::int64_t i = lane; i < args.squares.extent[1]; i += warp_size) {
      sum += args.squares(token, i);
    }
  } else {
    for (std::int64_t c = lane * vector; c < args.x.extent[1]; c += warp_size * vector) {
      float x[vector];
      load_elements(args.x.at(token, c), args.x.dtype, x);
#pragma unroll
      for (int k = 0; k < vector; ++k) sum += x[k] * x[k];
    }
  }
  return 1.0F / sqrtf(warp_sum(sum) / static_cast<float>(args.x.extent[1]) + args.epsilon);
}

/// A thread's columns of the norm's weight, which no kernel writes: read ahead.
struct NormColumns {
  float weight[vectors_per_thread][vector];

  __device__ NormColumns(const LinearStepArgs& args, int begin, int columns) {
    if (args.norm.data == nullptr) return;
#pragma unroll
    for (int v = 0; v < vectors_per_thread; ++v) {
      const int column = (v * consumers + static_cast<int>(threadIdx.x)) * vector;
      if (column < columns) load_elements(args.norm.at(begin + column), args.norm.dtype, weight[v]);
    }
  }
};

/// The slice of x in the weights' type, normalised if there is a norm: token t at x + t x_pitch.
template <DType dtype, DType x_type, int at_once>
__device__ void stage_input(const LinearStepArgs& args, const Cut& cut, const Shared& shared,
                            const NormColumns& norm, int begin, int columns) {
  constexpr int words = x_type == DType::fp32 ? 2 : 1;
  const int thread = static_cast<int>(threadIdx.x);
  const int tokens = static_cast<int>(args.x.extent[0]);
  const bool normed = args.norm.data != nullptr;
  const auto for_each = [&](int first, auto visit) {
#pragma unroll
    for (int t = 0; t < at_once; ++t) {
#pragma unroll
      for (int v = 0; v < vectors_per_thread; ++v) {
        const int column = (v * consumers + thread) * vector;
        if (first + t < tokens && column < columns) visit(t, v, first + t, column);
      }
    }
  };
  for (int first = 0; first < tokens; first += at_once) {
    uint4 raw[at_once][vectors_per_thread][words];
    for_each(first, [&](int t, int v, int token, int column) {
      const auto* source = reinterpret_cast<const uint4*>(args.x.at(token, begin + column));
#pragma unroll
      for (int w = 0; w < words; ++w) raw[t][v][w] = source[w];
    });
    if (normed && first == 0) {  // while these loads are on their way
      const int warp = thread / warp_size;
      if (warp < tokens) {
        const float scale = norm_scale(args, warp);
        if (thread % warp_size == 0) shared.scale[warp] = scale;
      }
      wait_for_consumers();
    }
    for_each(first, [&](int t, int v, int token, int column) {
      const std::uint32_t target = shared.x + token * cut.x_pitch + column * 2;
      if (x_type != DType::fp32 && !normed) return hopper::store_shared_16(target, raw[t][v][0]);
      const std::uint32_t* const word = &raw[t][v][0].x;
      const float scale = normed ? shared.scale[token] : 1.0F;
      std::uint32_t packed[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        float2 pair;
        if constexpr (x_type == DType::fp32) {
          pair = {__uint_as_float(word[2 * k]), __uint_as_float(word[2 * k + 1])};
        } else {
          pair = detail::unpack<x_type>(word[k]);
        }
        if (normed) {
          pair.x *= scale * norm.weight[v][2 * k];
          pair.y *= scale * norm.weight[v][2 * k + 1];
        }
        packed[k] = detail::pack<dtype>(pair.x, pair.y);
      }
      hopper::store_shared_16(target, {packed[0], packed[1], packed[2], packed[3]});
    });
  }
  wait_for_consumers();
}

/// Tells every finishing warp, from `turn` on, that no unit follows.
__device__ void end_sums(const Cut& cut, const Shared& shared, int turn) {
  const int end = turn + (finishing_warps + cut.parts - 1) / cut.parts;
  for (; turn < end; ++turn) {
    const int buffer = turn % cut.sum_buffers;
    hopper::wait(shared.sums_empty + buffer * 8, (turn / cut.sum_buffers & 1) ^ 1);
    if (threadIdx.x == 0) shared.unit_of_sums[buffer] = -1;
    if (threadIdx.x % warp_size == 0) hopper::arrive(shared.sums_full + buffer * 8);
  }
}

// Each warp multiplies half a box of every tile.
template <DType dtype, StepSink sink>
__device__ void multiply(const LinearStepArgs& args, const Cut& cut, const Shared& shared) {
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int tokens = static_cast<int>(args.x.extent[0]);
  const int in = static_cast<int>(args.x.extent[1]);
  const int begin = static_cast<int>(blockIdx.x) % cut.slices * cut.columns;
  const int own_column = warp * columns_per_warp % tile_columns(sink);
  // A lane gives the address of one row of one 8 x 8 fragment: of the weights those of rows 0-7 and
  // 8-15 of 8 columns, then of the next 8; of x those of 8 tokens and 4 times 8 columns.
  const int row = lane % 16;
  const int chunk = own_column % box_columns / 8 + lane / 16;
  const std::uint32_t box = shared.ring + warp / 2 * box_bytes + row * 128;
  const std::uint32_t weights[2] = {box + ((chunk ^ (row % 8)) * 16),
                                    box + (((chunk + 2) ^ (row % 8)) * 16)};
  const std::uint32_t x =
      shared.x + min(lane % 8, tokens - 1) * cut.x_pitch + own_column * 2 + lane / 8 * 16;
  Position at;
  for (int turn = 0;; ++turn) {
    float even[4] = {}, odd[4] = {};
    int unit = -1;
    for (int t = 0; t < cut.tiles; ++t) {
      hopper::wait(shared.full + at.stage * 8, at.parity);
      unit = shared.unit_of_stage[at.stage];
      if (unit < 0) break;
      if (begin + t * tile_columns(sink) + own_column < in) {
        const std::uint32_t stage = at.stage * stage_bytes;
        std::uint32_t a[2][4], b[4];
        load_fragments(a[0], weights[0] + stage);
        load_fragments(a[1], weights[1] + stage);
        load_fragments(b, x + t * tile_columns(sink) * 2);
        multiply_fragments<dtype>(even, a[0], b[0], b[1]);
        multiply_fragments<dtype>(odd, a[1], b[2], b[3]);
      }
      __syncwarp();
      if (lane == 0) hopper::arrive(shared.empty + at.stage * 8);
      at.advance(cut.stages);
    }

    if (unit < 0) return end_sums(cut, shared, turn);
    const int buffer = turn % cut.sum_buffers;
    hopper::wait(shared.sums_empty + buffer * 8, (turn / cut.sum_buffers & 1) ^ 1);
    const std::uint32_t sums =
        shared.sums + (buffer * consumer_warps + warp) * tokens * tile_rows * 4;
    if (warp == 0 && lane == 0) shared.unit_of_sums[buffer] = unit;
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int token = lane % 4 * 2 + c;
      if (token >= tokens) continue;
      const std::uint32_t column = sums + (token * tile_rows + lane / 4) * 4;
      hopper::store_shared_4(column, __float_as_uint(even[c] + odd[c]));
      hopper::store_shared_4(column + 8 * 4, __float_as_uint(even[c + 2] + odd[c + 2]));
    }
    __syncwarp();
    if (lane == 0) hopper::arrive(shared.sums_full + buffer * 8);
  }
}

/// The convolution of column c of y: silu(bias + weight * (window, value)), the window moved on.
__device__ float convolve(const LinearStepArgs& args, std::int64_t token, std::int64_t channel,
                          float value) {
  const StepConvolution& conv = args.convolution;
  const auto past = static_cast<int>(conv.weight.extent[1] - 1);
  float sum =
      conv.bias.data != nullptr ? load_element(conv.bias.at(channel), conv.bias.dtype) : 0.0F;
  float entry[max_taps], weight[max_taps];
#pragma unroll
  for (int k = 0; k < max_taps; ++k) {  // all on their way before the first is needed
    if (k > past) continue;
    weight[k] = load_element(conv.weight.at(channel, k), conv.weight.dtype);
    entry[k] =
        k < past ? load_element(conv.window.at(token, k, channel), conv.window.dtype) : value;
  }
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
    __syncwarp();
    if (lane == 0) hopper::arrive(shared.sums_empty + buffer * 8);

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

template <DType dtype, StepSink sink, bool paired>
__global__ void __launch_bounds__(threads, paired ? 2 : 1)
    linear_step_kernel(const __grid_constant__ LinearStepArgs args,
                       const __grid_constant__ Maps maps, const __grid_constant__ Cut cut) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ std::byte unaligned[];
  __shared__ std::uint64_t barriers[2 * max_stages + 2 * max_sum_buffers];
  __shared__ int unit_of_stage[max_stages], unit_of_sums[max_sum_buffers];
  __shared__ float scale[8];
  const int tokens = static_cast<int>(args.x.extent[0]);
  Shared shared;
  const std::uint32_t start = shared_address(unaligned);
  shared.ring = (start + swizzle_alignment - 1) / swizzle_alignment * swizzle_alignment;
  shared.x = shared.ring + cut.stages * stage_bytes;
  shared.sums = shared.x + tokens * cut.x_pitch;
  shared.full = shared_address(barriers);
  shared.empty = shared.full + max_stages * 8;
  shared.sums_full = shared.empty + max_stages * 8;
  shared.sums_empty = shared.sums_full + max_sum_buffers * 8;
  shared.unit_of_stage = unit_of_stage;
  shared.unit_of_sums = unit_of_sums;
  shared.scale = scale;
  if (threadIdx.x == 0) {
    for (int i = 0; i < cut.stages; ++i) {
      hopper::init_barrier(shared.full + i * 8, 1);
      hopper::init_barrier(shared.empty + i * 8, consumer_warps);
    }
    for (int i = 0; i < cut.sum_buffers; ++i) {
      hopper::init_barrier(shared.sums_full + i * 8, consumer_warps);
      hopper::init_barrier(shared.sums_empty + i * 8, static_cast<std::uint32_t>(cut.parts));
    }
    hopper::publish_barriers();
  }
  __syncthreads();

  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  if (warp == consumer_warps) {
    produce<sink, paired>(args, maps, cut, shared);
    return;
  }
  const int begin = static_cast<int>(blockIdx.x) % cut.slices * cut.columns;
  const int columns = min(static_cast<int>(args.x.extent[1]) - begin, cut.columns);
  if (warp < consumer_warps) {
    const NormColumns norm(args, begin, columns);
    wait_for_previous_kernel();
    // Not before: the start of the next kernel tells that those before this one are complete.
    if constexpr (!paired) let_next_kernel_start();
    if (args.x.dtype == DType::fp32) {
      stage_input<dtype, DType::fp32, paired ? 1 : 4>(args, cut, shared, norm, begin, columns);
    } else {
      stage_input<dtype, dtype, paired ? 2 : 4>(args, cut, shared, norm, begin, columns);
    }
    multiply<dtype, sink>(args, cut, shared);
  } else {
    wait_for_previous_kernel();
    const auto* sums = reinterpret_cast<const float*>(unaligned + (shared.sums - start));
    finish_units<sink>(args, cut, shared, sums);
  }
#endif
}

std::int64_t unit_count(const LinearStepArgs& args) {
  std::int64_t units = 0;
  for (const LinearProduct& product : args.products) {
    if (args.sink == StepSink::silu_mul && &product != args.products.data()) break;
    if (product.weight) units += ceil_div(product.weight.extent[0], tile_rows);
  }
  return units;
}

// Of x and of the sums.
std::int64_t fixed_bytes(const Cut& cut, std::int64_t tokens) {
  return tokens * cut.x_pitch + cut.sum_buffers * consumer_warps * tokens * tile_rows * 4;
}

// Independent of the number of tokens, so that a token's sums do not depend on its neighbours. A
// power of two: the blocks are dealt evenly on 132 multiprocessors.
Cut cut_of(const LinearStepArgs& args) {
  const auto [tokens, in] = args.x.extent;
  Cut cut;
  cut.units = static_cast<int>(unit_count(args));
  cut.slices = 1;
  while (in > cut.slices * max_slice_columns) cut.slices *= 2;
  const int tile = tile_columns(args.sink);
  cut.tiles = static_cast<int>(ceil_div(ceil_div(in, tile), cut.slices));
  cut.columns = cut.tiles * tile;
  cut.x_pitch = cut.columns * 2 + 16;  // 8 tokens' chunks lie in different banks
  cut.parts = static_cast<int>(ceil_div(tokens * tile_rows, warp_size));
  cut.sum_buffers = cut.parts <= 2 ? 4 : 2;
  const int budget = tokens <= paired_tokens ? shared_budget_paired : shared_budget_alone;
  cut.stages = static_cast<int>(std::min<std::int64_t>(
      max_stages, (budget - swizzle_alignment - fixed_bytes(cut, tokens)) / stage_bytes));
  return cut;
}

template <DType dtype, StepSink sink, bool paired>
void launch_for(const LinearStepArgs& args, CUstream_st* stream) {
  const Cut cut = cut_of(args);
  const auto kernel = linear_step_kernel<dtype, sink, paired>;
  const auto bytes = static_cast<int>(swizzle_alignment + cut.stages * stage_bytes +
                                      fixed_bytes(cut, args.x.extent[0]));
  Maps maps;
  for (std::size_t i = 0; i < args.products.size(); ++i) {
    const ConstAnyView<2>& weight = args.products[i].weight;
    if (!weight) break;
    const std::int64_t pitch = weight.extent[0] > 1 ? weight.stride[0] : weight.extent[1];
    maps.map[i] =
        hopper::bf16_tile_map(weight.data, weight.extent[1], weight.extent[0], pitch, tile_rows);
  }
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
             "linear_step shared memory");
  const auto blocks = static_cast<unsigned>(std::min(std::int64_t{device_limits().multiprocessors},
                                                     std::int64_t{cut.units} * cut.slices));
  launch_overlapping_shared("linear_step launch", kernel, blocks, threads,
                            static_cast<unsigned>(bytes), stream, args, maps, cut);
}

template <DType dtype, StepSink sink>
void launch(const LinearStepArgs& args, CUstream_st* stream) {
  if (args.x.extent[0] <= paired_tokens) return launch_for<dtype, sink, true>(args, stream);
  launch_for<dtype, sink, false>(args, stream);
}

template <DType dtype>
void launch(const LinearStepArgs& args, CUstream_st* stream) {
  switch (args.sink) {
    case StepSink::store:
      return launch<dtype, StepSink::store>(args, stream);
    case StepSink::accumulate:
      return launch<dtype, StepSink::accumulate>(args, stream);
    case StepSink::silu_mul:
      return launch<dtype, StepSink::silu_mul>(args, stream);
    case StepSink::convolve:
      return launch<dtype, StepSink::convolve>(args, stream);
  }
}

}  // namespace

void linear_step(const LinearStepArgs& args, CUstream_st* stream) {
  if (args.products[0].weight.dtype == DType::bf16) {
    launch<DType::bf16>(args, stream);
  } else {
    launch<DType::fp16>(args, stream);
  }
}

}  // namespace chunkstate::cuda

namespace chunkstate {

bool linear_step_applies(const LinearStepArgs& args) {
  const auto [tokens, in] = args.x.extent;
  const DType dtype = args.products[0].weight.dtype;
  if (device_limits().compute_capability < 90 || dtype == DType::fp32) return false;
  bool fits = tokens >= 1 && tokens <= 8 && in > 0 && in % 32 == 0 &&
              (args.x.dtype == DType::fp32 || args.x.dtype == dtype) && allows_vectors<8>(args.x) &&
              allows_vectors<8>(args.norm);
  for (const LinearProduct& product : args.products) {
    if (!product.weight) break;
    fits = fits && product.weight.dtype == dtype && product.weight.extent[0] > 0 &&
           allows_vectors<8>(product.weight);
  }
  fits = fits && args.convolution.weight.extent[1] <= cuda::max_taps;
  return fits && cuda::cut_of(args).stages >= 2;
}

std::int64_t linear_step_counters(const LinearStepArgs& args) {
  const cuda::step::Cut cut = cuda::cut_of(args);
  return std::int64_t{cut.units} * cut.parts + cut.slices;
}

std::int64_t linear_step_partials(const LinearStepArgs& args) {
  const cuda::step::Cut cut = cuda::cut_of(args);
  if (cut.slices == 1) return 0;
  const int sums = args.sink == StepSink::silu_mul ? 2 : 1;
  return std::int64_t{cut.units} * cut.slices * sums * args.x.extent[0] * cuda::step::tile_rows;
}

}  // namespace chunkstate
