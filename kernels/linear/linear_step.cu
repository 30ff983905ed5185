// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/base/cuda_check.cuh"
#include "kernels/linear/step_finish.cuh"
#include "kernels/linear/step_input.cuh"

namespace chunkstate::cuda {
namespace {

using namespace step;

static_assert(finishing_warps <= max_sum_buffers, "end_sums tells each of them through a buffer");

/// Tells every finishing warp, from `turn` on, that no unit follows.
[[maybe_unused]] __device__ void end_sums(const Cut& cut, const Shared& shared, int turn) {
  const int end = turn + (finishing_warps + cut.parts - 1) / cut.parts;
  for (; turn < end; ++turn) {
    const int buffer = turn % cut.sum_buffers;
    hopper::wait(shared.sums_empty + buffer * 8, (turn / cut.sum_buffers & 1) ^ 1);
    if (threadIdx.x == 0) shared.unit_of_sums[buffer] = -1;
    hopper::arrive(shared.sums_full + buffer * 8);
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
      // Read by the lane that frees the stage: racecheck does not connect the others with it.
      unit = __shfl_sync(full_warp, lane == 0 ? shared.unit_of_stage[at.stage] : 0, 0);
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
    hopper::arrive(shared.sums_full + buffer * 8);
  }
}

template <DType dtype, StepSink sink>
__global__ void __launch_bounds__(threads, 1)
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
      // Every lane arrives: compute-sanitizer does not see that a warp's barrier comes before one
      // lane's arrival.
      hopper::init_barrier(shared.sums_full + i * 8, consumer_warps * warp_size);
      hopper::init_barrier(shared.sums_empty + i * 8,
                           static_cast<std::uint32_t>(cut.parts * warp_size));
    }
    hopper::publish_barriers();
  }
  __syncthreads();

  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  if (warp == consumer_warps) {
    produce<sink>(args, maps, cut, shared);
    return;
  }
  const int begin = static_cast<int>(blockIdx.x) % cut.slices * cut.columns;
  const int columns = min(static_cast<int>(args.x.extent[1]) - begin, cut.columns);
  if (warp < consumer_warps) {
    const NormColumns norm(args, begin, columns);
    wait_for_previous_kernel();
    // Only now: its start tells the next kernel that those before this one are complete.
    let_next_kernel_start();
    if (args.x.dtype == DType::fp32) {
      stage_input<dtype, DType::fp32, tokens_at_once>(args, cut, shared, norm, begin, columns);
    } else {
      stage_input<dtype, dtype, tokens_at_once>(args, cut, shared, norm, begin, columns);
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
  cut.stages = static_cast<int>(std::min<std::int64_t>(
      max_stages, (shared_budget - swizzle_alignment - fixed_bytes(cut, tokens)) / stage_bytes));
  return cut;
}

int block_count(const Cut& cut) {
  return std::min(device_limits().multiprocessors, cut.units * cut.slices);
}

template <DType dtype, StepSink sink>
void launch(const LinearStepArgs& args, CUstream_st* stream) {
  const Cut cut = cut_of(args);
  const auto kernel = linear_step_kernel<dtype, sink>;
  const auto bytes = static_cast<int>(swizzle_alignment + cut.stages * stage_bytes +
                                      fixed_bytes(cut, args.x.extent[0]));
  Maps maps;
  for (std::size_t i = 0; i < args.products.size(); ++i) {
    const ConstAnyView<2>& weight = args.products[i].weight;
    if (!weight) break;
    const std::int64_t pitch = weight.extent[0] > 1 ? weight.stride[0] : weight.extent[1];
    maps.map[i] = hopper::bf16_tile_map(weight.data, weight.extent[1], weight.extent[0], pitch,
                                        tile_rows, tile_columns(sink) / box_columns);
  }
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
             "linear_step shared memory");
  launch_overlapping_shared("linear_step launch", kernel, static_cast<unsigned>(block_count(cut)),
                            threads, static_cast<unsigned>(bytes), stream, args, maps, cut);
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
  bool fits = tokens >= 1 && tokens <= 8 && in > 0 && in % cuda::step::box_columns == 0 &&
              (args.x.dtype == DType::fp32 || args.x.dtype == dtype) && allows_vectors<8>(args.x) &&
              allows_vectors<8>(args.norm);
  for (const LinearProduct& product : args.products) {
    if (!product.weight) break;
    fits = fits && product.weight.dtype == dtype && product.weight.extent[0] > 0 &&
           allows_vectors<8>(product.weight);
  }
  fits = fits && args.convolution.weight.extent[1] <= cuda::step::max_taps;
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
