// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/base/elements.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/linear/matrix_vector.cuh"

// Decode reads every weight once per step, so these kernels are judged by the share of the memory's
// read bandwidth they reach. An H200 needs about 3 MB on the way (4.4 TB/s times 700 ns of loaded
// latency), 23 KB per multiprocessor: each thread keeps 8 vectors of 16 bytes in flight.
namespace chunkstate::cuda {
namespace {

constexpr int warps = 8;
constexpr int threads = warps * warp_size;
constexpr int vector = 8;  // features a thread reads at a time
constexpr int max_tokens = 8;

/// 16 bytes that nothing reads again: past L1, which keeps the activations.
__device__ __forceinline__ uint4 load_streaming(const std::byte* address) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address));
  return value;
}

template <DType dtype>
struct WeightVector {
  uint4 part[dtype == DType::fp32 ? 2 : 1];

  __device__ __forceinline__ void load(const std::byte* address) {
    part[0] = load_streaming(address);
    if constexpr (dtype == DType::fp32) part[1] = load_streaming(address + 16);
  }
  __device__ __forceinline__ void to_floats(float (&value)[vector]) const {
    if constexpr (dtype == DType::fp32) {
#pragma unroll
      for (int p = 0; p < 2; ++p) {
        value[4 * p] = __uint_as_float(part[p].x);
        value[4 * p + 1] = __uint_as_float(part[p].y);
        value[4 * p + 2] = __uint_as_float(part[p].z);
        value[4 * p + 3] = __uint_as_float(part[p].w);
      }
    } else {
      const std::uint32_t words[4] = {part[0].x, part[0].y, part[0].z, part[0].w};
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const float2 pair = detail::unpack<dtype>(words[k]);
        value[2 * k] = pair.x;
        value[2 * k + 1] = pair.y;
      }
    }
  }
};

/// Brings the line of an address to L2. Harmless before wait_for_previous_kernel, whoever wrote it:
/// L2 is where all writes meet.
__device__ __forceinline__ void prefetch_line(const std::byte* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

__device__ __forceinline__ void store_output(const LinearArgs& args, std::int64_t token,
                                             std::int64_t out, float value) {
  if (args.bias.data != nullptr) value += load_element(args.bias.at(out), args.bias.dtype);
  value *= args.scale;
  std::byte* address = args.y.at(token, out);
  if (args.accumulate) value += load_element(address, args.y.dtype);
  store_element(address, args.y.dtype, value);
}

// A warp sums `rows` outputs over its share of the features; warps_per_row warps of a block share a
// group of rows and add up in their order.
template <DType weight_type, int tokens, int rows>
__global__ void __launch_bounds__(threads) vector_kernel(LinearArgs args, int warps_per_row) {
  constexpr int unroll = weight_type == DType::fp32 ? 2 : 8 / rows;
  __shared__ float partial[warps][rows][tokens];
  const std::int64_t in_features = args.x.extent[1];
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int slice = warp % warps_per_row;
  const std::int64_t row =
      (static_cast<std::int64_t>(blockIdx.x) * (warps / warps_per_row) + warp / warps_per_row) *
      rows;
  const std::int64_t last_row = args.weight.extent[0] - 1;
  const int active_tokens = static_cast<int>(args.x.extent[0]);

  // While the kernel before this one ends: the weights of the first round.
  let_next_kernel_start();
#pragma unroll
  for (int u = 0; u < unroll; ++u) {
    const std::int64_t feature = ((slice * unroll + u) * warp_size + lane) * vector;
    if (feature < in_features) {
#pragma unroll
      for (int r = 0; r < rows; ++r) prefetch_line(args.weight.at(min(row + r, last_row), feature));
    }
  }
  wait_for_previous_kernel();

  float sum[rows][tokens] = {};
  const std::int64_t step = static_cast<std::int64_t>(warps_per_row) * unroll * warp_size * vector;
  for (std::int64_t base = slice * unroll * warp_size * vector; base < in_features; base += step) {
    WeightVector<weight_type> weight[unroll][rows] = {};
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      const std::int64_t feature = base + (u * warp_size + lane) * vector;
      if (feature < in_features) {
#pragma unroll
        for (int r = 0; r < rows; ++r)
          weight[u][r].load(args.weight.at(min(row + r, last_row), feature));
      }
    }
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      const std::int64_t feature = base + (u * warp_size + lane) * vector;
      if (feature >= in_features) continue;
      float w[rows][vector];
#pragma unroll
      for (int r = 0; r < rows; ++r) weight[u][r].to_floats(w[r]);
#pragma unroll
      for (int t = 0; t < tokens; ++t) {
        if (t >= active_tokens) break;
        float x[vector];
        load_elements(args.x.at(t, feature), args.x.dtype, x);
#pragma unroll
        for (int r = 0; r < rows; ++r) {
#pragma unroll
          for (int k = 0; k < vector; ++k) sum[r][t] += w[r][k] * x[k];
        }
      }
    }
  }

#pragma unroll
  for (int r = 0; r < rows; ++r) {
#pragma unroll
    for (int t = 0; t < tokens; ++t) {
      sum[r][t] = warp_sum(sum[r][t]);
      if (lane == 0) partial[warp][r][t] = sum[r][t];
    }
  }
  __syncthreads();
  if (slice != 0) return;
  for (int index = lane; index < rows * active_tokens; index += warp_size) {
    const int r = index % rows;
    const int t = index / rows;
    if (row + r > last_row) continue;
    float value = 0.0F;
    for (int s = 0; s < warps_per_row; ++s) value += partial[warp + s][r][t];
    store_output(args, t, row + r, value);
  }
}

template <DType dtype>
__device__ __forceinline__ void multiply_tile(float (&sum)[4], std::uint32_t a0, std::uint32_t a1,
                                              std::uint32_t a2, std::uint32_t a3, std::uint32_t b0,
                                              std::uint32_t b1) {
  if constexpr (dtype == DType::bf16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
}

// Up to 8 tokens of the weight's own 16-bit type on the tensor cores: one block per 16 outputs, its
// warps share the features and add up in their order. A product of fragments may take the features
// in any order as long as both operands take the same one, so a thread reads 8 neighbouring
// features of its row (and of its token) in one vector, straight into the fragments of two
// products.
template <DType dtype>
__global__ void __launch_bounds__(threads) tile_kernel(LinearArgs args) {
  constexpr int rows = 16;
  constexpr int segment = 32;  // features of a fragment pair: 4 threads of a row read 64 bytes
  constexpr int unroll = 4;
  __shared__ float partial[warps][rows][max_tokens];
  const std::int64_t in_features = args.x.extent[1];
  const std::int64_t last_row = args.weight.extent[0] - 1;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int group = lane / 4;            // row of the weight, token of x
  const int offset = lane % 4 * vector;  // first feature within the segment
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * rows;
  const std::byte* upper = args.weight.at(min(row + group, last_row), offset);
  const std::byte* lower = args.weight.at(min(row + group + 8, last_row), offset);
  const bool has_token = group < args.x.extent[0];
  const std::byte* token = args.x.at(has_token ? group : 0, offset);

  // While the kernel before this one ends: the weights of the first round.
  let_next_kernel_start();
#pragma unroll
  for (int u = 0; u < unroll; ++u) {
    const std::int64_t feature = (warp * unroll + u) * segment;
    if (feature + offset < in_features) {
      prefetch_line(upper + feature * 2);
      prefetch_line(lower + feature * 2);
    }
  }
  wait_for_previous_kernel();

  float sum[4] = {};
  for (std::int64_t base = warp * unroll * segment; base < in_features;
       base += warps * unroll * segment) {
    uint4 a[unroll][2], b[unroll];
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      const std::int64_t feature = base + u * segment;
      a[u][0] = a[u][1] = b[u] = make_uint4(0, 0, 0, 0);
      if (feature + offset < in_features) {
        a[u][0] = load_streaming(upper + feature * 2);
        a[u][1] = load_streaming(lower + feature * 2);
        if (has_token) b[u] = *reinterpret_cast<const uint4*>(token + feature * 2);
      }
    }
#pragma unroll
    for (int u = 0; u < unroll; ++u) {
      multiply_tile<dtype>(sum, a[u][0].x, a[u][1].x, a[u][0].y, a[u][1].y, b[u].x, b[u].y);
      multiply_tile<dtype>(sum, a[u][0].z, a[u][1].z, a[u][0].w, a[u][1].w, b[u].z, b[u].w);
    }
  }

  const int column = lane % 4 * 2;
  partial[warp][group][column] = sum[0];
  partial[warp][group][column + 1] = sum[1];
  partial[warp][group + 8][column] = sum[2];
  partial[warp][group + 8][column + 1] = sum[3];
  __syncthreads();
  const int r = static_cast<int>(threadIdx.x) % rows;
  const int t = static_cast<int>(threadIdx.x) / rows;
  if (t >= args.x.extent[0] || row + r > last_row) return;
  float value = 0.0F;
  for (int w = 0; w < warps; ++w) value += partial[w][r][t];
  store_output(args, t, row + r, value);
}

// Enough warps to fill the device: features are shared among warps where there are few outputs.
int choose_warps_per_row(std::int64_t row_groups, std::int64_t in_features,
                         int features_per_round) {
  const std::int64_t wanted = static_cast<std::int64_t>(device_limits().multiprocessors) * 16;
  int result = 1;
  while (result < warps && row_groups * result < wanted &&
         in_features >= 2 * result * features_per_round) {
    result *= 2;
  }
  return result;
}

template <DType weight_type, int tokens>
void launch_vector(const LinearArgs& args, CUstream_st* stream) {
  constexpr int rows = 2;
  const std::int64_t groups = ceil_div(args.weight.extent[0], rows);
  const int warps_per_row = choose_warps_per_row(groups, args.x.extent[1], 4 * warp_size * vector);
  const auto blocks = static_cast<unsigned>(ceil_div(groups, warps / warps_per_row));
  launch_overlapping("linear matrix-vector launch", vector_kernel<weight_type, tokens, rows>,
                     blocks, threads, stream, args, warps_per_row);
}

template <DType weight_type>
void launch(const LinearArgs& args, CUstream_st* stream) {
  const std::int64_t tokens = args.x.extent[0];
  if (tokens == 1) return launch_vector<weight_type, 1>(args, stream);
  if constexpr (weight_type != DType::fp32) {
    if (args.x.dtype == weight_type) {
      const auto blocks = static_cast<unsigned>(ceil_div(args.weight.extent[0], 16));
      launch_overlapping("linear matrix-vector launch", tile_kernel<weight_type>, blocks, threads,
                         stream, args);
      return;
    }
  }
  if (tokens <= 4) return launch_vector<weight_type, 4>(args, stream);
  launch_vector<weight_type, 8>(args, stream);
}

}  // namespace

bool matrix_vector(const LinearArgs& args, CUstream_st* stream) {
  if (args.x.extent[0] > max_tokens || args.x.extent[1] == 0) return false;
  if (!allows_vectors<8>(args.x) || !allows_vectors<8>(args.weight)) return false;
  switch (args.weight.dtype) {
    case DType::fp32:
      launch<DType::fp32>(args, stream);
      break;
    case DType::bf16:
      launch<DType::bf16>(args, stream);
      break;
    case DType::fp16:
      launch<DType::fp16>(args, stream);
      break;
  }
  return true;
}

}  // namespace chunkstate::cuda
