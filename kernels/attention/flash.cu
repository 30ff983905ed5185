// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "kernels/attention/flash.cuh"
#include "kernels/base/check.hpp"
#include "kernels/base/cuda_check.cuh"
#include "kernels/base/elements.cuh"
#include "kernels/base/tensor_core.cuh"
#include "kernels/base/workspace.cuh"

namespace chunkstate::cuda {
namespace {

constexpr int warps = 4;
constexpr int threads = warps * warp_size;
constexpr int tile = 64;   // queries of a block (16 per warp)
constexpr int stages = 2;  // key and value tiles in shared memory: one computed on, one on its way
constexpr float log2_e = 1.4426950408889634F;

// Tiles hold rows of head_dim elements in pieces of 16 bytes. Piece p of row r lies at p ^ (r % 8),
// so that the 8 rows of a fragment fall into 8 different bank groups.
template <int head_dim>
__device__ __forceinline__ std::uint32_t piece_offset(int row, int piece) {
  return static_cast<std::uint32_t>(row * head_dim * 2 + ((piece ^ (row & 7)) << 4));
}

template <int head_dim, int rows_of_tile>
__device__ __forceinline__ void copy_tile(std::uint32_t shared, const ConstAnyView<3>& rows,
                                          std::int64_t head, std::int64_t first) {
  constexpr int pieces = head_dim / 8;
#pragma unroll
  for (int k = 0; k < rows_of_tile * pieces / threads; ++k) {
    const int index = k * threads + static_cast<int>(threadIdx.x);
    const int row = index / pieces;
    const int piece = index % pieces;
    const bool inside = first + row < rows.extent[0];
    copy_async_16(shared + piece_offset<head_dim>(row, piece),
                  rows.at(inside ? first + row : 0, head, piece * 8), inside);
  }
}

// One block per 64 queries of a head; keys stream through shared memory while the running maximum,
// the running sum and the output stay in registers. Probabilities leave the first product in
// exactly the registers in which the second one wants its left operand. `keys`: of a round.
template <DType dtype, int head_dim, int keys>
__global__ void __launch_bounds__(threads) flash_kernel(AttentionArgs args, int query_tiles) {
  constexpr int depth = head_dim / 16;
  constexpr int tile_bytes = keys * head_dim * 2;
  extern __shared__ __align__(128) std::uint8_t shared_memory[];
  const std::uint32_t q_tile = shared_address(shared_memory);
  const std::uint32_t kv_tiles = q_tile + tile * head_dim * 2;  // stage: keys, then values

  const std::int64_t heads = args.q.extent[1];
  const std::int64_t head = blockIdx.x % heads;
  const std::int64_t kv_head = head / (heads / args.k.extent[1]);
  // The last queries see the most keys: they start first.
  const std::int64_t first =
      (query_tiles - 1 - static_cast<std::int64_t>(blockIdx.x / heads)) * tile;
  const std::int64_t before = args.k.extent[0] - args.q.extent[0];
  const std::int64_t end = before + min(first + tile, args.q.extent[0]);
  const int rounds = static_cast<int>(ceil_div(end, keys));
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int lane = static_cast<int>(threadIdx.x) % warp_size;

  const auto fetch = [&](int round) {
    const std::uint32_t stage = kv_tiles + (round % stages) * 2 * tile_bytes;
    if (round < rounds) {
      copy_tile<head_dim, keys>(stage, args.k, kv_head, static_cast<std::int64_t>(round) * keys);
      copy_tile<head_dim, keys>(stage + tile_bytes, args.v, kv_head,
                                static_cast<std::int64_t>(round) * keys);
    }
    commit_copies();
  };
  copy_tile<head_dim, tile>(q_tile, args.q, head, first);
  fetch(0);

  std::uint32_t q[depth][4];
  float output[head_dim / 8][4] = {};
  float maximum[2] = {-INFINITY, -INFINITY};  // of this thread's two rows: lane / 4 and 8 further
  float sum[2] = {};                          // of this thread's columns only, until the end
  const float scale = args.scale * log2_e;
  const int row = warp * 16 + lane / 4;

  for (int round = 0; round < rounds; ++round) {
    fetch(round + 1);
    wait_copies<1>();
    __syncthreads();
    const std::uint32_t k_tile = kv_tiles + (round % stages) * 2 * tile_bytes;
    const std::uint32_t v_tile = k_tile + tile_bytes;
    if (round == 0) {
#pragma unroll
      for (int d = 0; d < depth; ++d) {
        load_fragments(
            q[d], q_tile + piece_offset<head_dim>(warp * 16 + (lane & 15), 2 * d + (lane >> 4)));
      }
    }

    float score[keys / 8][4] = {};
#pragma unroll
    for (int d = 0; d < depth; ++d) {
#pragma unroll
      for (int n = 0; n < keys / 16; ++n) {
        std::uint32_t k[4];
        load_fragments(k, k_tile + piece_offset<head_dim>(n * 16 + (lane >> 4) * 8 + (lane & 7),
                                                          2 * d + ((lane >> 3) & 1)));
        multiply_fragments<dtype>(score[2 * n], q[d], k[0], k[1]);
        multiply_fragments<dtype>(score[2 * n + 1], q[d], k[2], k[3]);
      }
    }

    const std::int64_t key = static_cast<std::int64_t>(round) * keys + (lane & 3) * 2;
    if (static_cast<std::int64_t>(round + 1) * keys > before + first + 1) {
#pragma unroll
      for (int n = 0; n < keys / 8; ++n) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          if (key + n * 8 + (e & 1) > before + first + row + (e >> 1) * 8) score[n][e] = -INFINITY;
        }
      }
    }

#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = maximum[half];
#pragma unroll
      for (int n = 0; n < keys / 8; ++n) {
        largest = fmaxf(largest, fmaxf(score[n][2 * half], score[n][2 * half + 1]));
      }
      largest = fmaxf(largest, __shfl_xor_sync(full_warp, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(full_warp, largest, 2));
      const float correction = exp2f((maximum[half] - largest) * scale);
      maximum[half] = largest;
      sum[half] *= correction;
#pragma unroll
      for (int n = 0; n < head_dim / 8; ++n) {
        output[n][2 * half] *= correction;
        output[n][2 * half + 1] *= correction;
      }
#pragma unroll
      for (int n = 0; n < keys / 8; ++n) {
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          score[n][e] = exp2f((score[n][e] - largest) * scale);
          sum[half] += score[n][e];
        }
      }
    }

#pragma unroll
    for (int d = 0; d < keys / 16; ++d) {
      const std::uint32_t probability[4] = {
          detail::pack<dtype>(score[2 * d][0], score[2 * d][1]),
          detail::pack<dtype>(score[2 * d][2], score[2 * d][3]),
          detail::pack<dtype>(score[2 * d + 1][0], score[2 * d + 1][1]),
          detail::pack<dtype>(score[2 * d + 1][2], score[2 * d + 1][3])};
#pragma unroll
      for (int n = 0; n < head_dim / 16; ++n) {
        std::uint32_t v[4];
        load_fragments_transposed(
            v, v_tile + piece_offset<head_dim>(d * 16 + ((lane >> 3) & 1) * 8 + (lane & 7),
                                               2 * n + (lane >> 4)));
        multiply_fragments<dtype>(output[2 * n], probability, v[0], v[1]);
        multiply_fragments<dtype>(output[2 * n + 1], probability, v[2], v[3]);
      }
    }
    __syncthreads();  // the next round's fetch overwrites this stage
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    sum[half] += __shfl_xor_sync(full_warp, sum[half], 1);
    sum[half] += __shfl_xor_sync(full_warp, sum[half], 2);
    const std::int64_t token = first + row + half * 8;
    if (token >= args.q.extent[0]) continue;
    const float factor = 1.0F / sum[half];
#pragma unroll
    for (int n = 0; n < head_dim / 8; ++n) {
      *reinterpret_cast<std::uint32_t*>(args.y.at(token, head, n * 8 + (lane & 3) * 2)) =
          detail::pack<dtype>(output[n][2 * half] * factor, output[n][2 * half + 1] * factor);
    }
  }
}

template <DType dtype, int head_dim, int keys>
void launch(const AttentionArgs& args, CUstream_st* stream) {
  constexpr int shared_bytes = (tile + 2 * stages * keys) * head_dim * 2;
  if (shared_bytes > device_limits().shared_bytes_per_block) {
    throw ShapeError("attention: block_keys " + std::to_string(keys) + " needs " +
                     std::to_string(shared_bytes) + " bytes of shared memory, this GPU has " +
                     std::to_string(device_limits().shared_bytes_per_block));
  }
  const auto kernel = flash_kernel<dtype, head_dim, keys>;
  check_cuda(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes),
      "attention shared memory");
  const auto query_tiles = static_cast<int>(ceil_div(args.q.extent[0], tile));
  const auto blocks = static_cast<unsigned>(query_tiles * args.q.extent[1]);
  kernel<<<blocks, threads, shared_bytes, stream>>>(args, query_tiles);
  check_cuda(cudaGetLastError(), "attention flash launch");
}

template <DType dtype, int head_dim>
void launch(const AttentionArgs& args, CUstream_st* stream) {
  switch (args.choice.block_keys) {
    case 32:
      return launch<dtype, head_dim, 32>(args, stream);
    case 128:
      return launch<dtype, head_dim, 128>(args, stream);
    default:
      return launch<dtype, head_dim, 64>(args, stream);
  }
}

}  // namespace

bool flash_attention(const AttentionArgs& args, CUstream_st* stream) {
  const DType dtype = args.q.dtype;
  const std::int64_t head_dim = args.q.extent[2];
  const bool fits = dtype != DType::fp32 && args.k.dtype == dtype && args.v.dtype == dtype &&
                    args.y.dtype == dtype && (head_dim == 64 || head_dim == 128) &&
                    args.scale > 0.0F && allows_vectors<8>(args.q) && allows_vectors<8>(args.k) &&
                    allows_vectors<8>(args.v) && allows_vectors<8>(args.y);
  if (!fits) return false;
  if (dtype == DType::bf16) {
    head_dim == 64 ? launch<DType::bf16, 64>(args, stream) : launch<DType::bf16, 128>(args, stream);
  } else {
    head_dim == 64 ? launch<DType::fp16, 64>(args, stream) : launch<DType::fp16, 128>(args, stream);
  }
  return true;
}

}  // namespace chunkstate::cuda
