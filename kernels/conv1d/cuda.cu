// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/cuda_check.cuh"
#include "kernels/base/elements.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/conv1d/conv1d.hpp"

namespace chunkstate::cuda {
namespace {

constexpr int threads = 96;           // Bamba-9B's 8448 channels by eights are 11 blocks
constexpr int tokens_per_thread = 8;  // 11 rows are read for 8 written, the other 3 from L1 or L2
constexpr int common_taps = 4;        // Mamba-2's kernel width: its window stays in registers

/// Input of token `token`, which may lie in the window before the first one.
template <int N, Storage storage = Storage::mixed>
__device__ __forceinline__ void load_input(const Conv1dArgs& args, std::int64_t token,
                                           std::int64_t c, float (&value)[N]) {
  const std::int64_t past = args.weight.extent[1] - 1;
  if (token >= 0) {
    load_elements(args.x.at(token, c), type_of<storage>(args.x.dtype), value);
  } else if (args.window.data != nullptr) {
    load_elements(args.window.at(past + token, c), args.window.dtype, value);
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) value[k] = 0.0F;
  }
}

template <int N, Storage storage = Storage::mixed>
__device__ __forceinline__ void load_bias(const ConstAnyView<1>& bias, std::int64_t c,
                                          float (&value)[N]) {
#pragma unroll
  for (int k = 0; k < N; ++k) value[k] = 0.0F;
  if (bias.data != nullptr) load_elements(bias.at(c), type_of<storage>(bias.dtype), value);
}

// The window's new entries: the last inputs. Run by the one thread that has read these channels'
// old entries; it moves them towards the past, so it reads each before writing it.
template <int N>
__device__ __forceinline__ void update_window(const Conv1dArgs& args, std::int64_t c) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t past = args.weight.extent[1] - 1;
  for (std::int64_t k = 0; k < past; ++k) {
    float input[N];
    load_input(args, tokens - past + k, c, input);
    store_elements(args.window.at(k, c), args.window.dtype, input);
  }
}

template <int N, Storage storage>
__device__ __forceinline__ void load_weights(const ConstAnyView<2>& weight, std::int64_t c,
                                             float (&value)[N][common_taps]) {
  if constexpr (N == 8 && storage != Storage::mixed) {
    const bool aligned = reinterpret_cast<std::uintptr_t>(weight.data) % 16 == 0;
    if (aligned && weight.stride[0] == common_taps) {  // two channels to 16 bytes
#pragma unroll
      for (int k = 0; k < N; k += 2) {
        float pair[2 * common_taps];
        load_elements(weight.at(c + k, 0), type_of<storage>(weight.dtype), pair);
#pragma unroll
        for (int tap = 0; tap < common_taps; ++tap) {
          value[k][tap] = pair[tap];
          value[k + 1][tap] = pair[common_taps + tap];
        }
      }
      return;
    }
  }
#pragma unroll
  for (int k = 0; k < N; ++k) {
    if constexpr (N > 1) {
      load_elements(weight.at(c + k, 0), type_of<storage>(weight.dtype), value[k]);
    } else {
      for (int tap = 0; tap < common_taps; ++tap) {
        value[k][tap] = load_element(weight.at(c + k, tap), weight.dtype);
      }
    }
  }
}

// A thread makes N channels of tokens_per_thread tokens. It asks for all their inputs first and
// unpacks them one by one as its window slides over them.
template <int N, Storage storage>
__global__ void __launch_bounds__(threads) conv1d_kernel(Conv1dArgs args) {
  overlap_kernels();
  constexpr int past = common_taps - 1;
  const auto [tokens, channels] = args.x.extent;
  const auto blocks_per_row = static_cast<unsigned>(ceil_div(channels, threads * N));
  const std::int64_t c =
      (static_cast<std::int64_t>(blockIdx.x % blocks_per_row) * threads + threadIdx.x) * N;
  const std::int64_t begin =
      static_cast<std::int64_t>(blockIdx.x / blocks_per_row) * tokens_per_thread;
  if (c >= channels) return;

  // begin is a multiple of tokens_per_thread, so that inputs before it exist unless it is 0.
  StoredElements<N, storage> before[past], stored[tokens_per_thread];
#pragma unroll
  for (int t = 0; t < past; ++t) {
    before[t].load(args.x.at(max(begin + t - past, std::int64_t{0}), c), args.x.dtype);
  }
#pragma unroll
  for (int t = 0; t < tokens_per_thread; ++t) {
    stored[t].load(args.x.at(min(begin + t, tokens - 1), c), args.x.dtype);
  }
  float weight[N][common_taps], bias[N];
  load_weights<N, storage>(args.weight, c, weight);
  load_bias<N, storage>(args.bias, c, bias);
  float input[common_taps][N];  // the window: input t of the thread lies at t % common_taps
#pragma unroll
  for (int t = 0; t < past; ++t) before[t].unpack(input[t]);
  if (begin == 0) {
#pragma unroll
    for (int t = 0; t < past; ++t) load_input(args, t - past, c, input[t]);
    if (args.window.data != nullptr) update_window<N>(args, c);
  }

#pragma unroll
  for (int t = 0; t < tokens_per_thread; ++t) {
    if (begin + t >= tokens) return;
    stored[t].unpack(input[(t + past) % common_taps]);
    float sum[N];
#pragma unroll
    for (int k = 0; k < N; ++k) {
      sum[k] = bias[k];
#pragma unroll
      for (int tap = 0; tap < common_taps; ++tap) {
        sum[k] += weight[k][tap] * input[(t + tap) % common_taps][k];
      }
      sum[k] = silu(sum[k]);
    }
    store_elements(args.y.at(begin + t, c), type_of<storage>(args.y.dtype), sum);
  }
}

// Any number of taps: one thread per token and channel.
__global__ void __launch_bounds__(row_threads) conv1d_general_kernel(Conv1dArgs args) {
  const auto [token, c] = row_position<1>(args.x.extent[1]);
  if (c >= args.x.extent[1]) return;
  const std::int64_t taps = args.weight.extent[1];
  float sum[1];
  load_bias(args.bias, c, sum);
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    float input[1];
    load_input(args, token + tap - (taps - 1), c, input);
    sum[0] += load_element(args.weight.at(c, tap), args.weight.dtype) * input[0];
  }
  store_element(args.y.at(token, c), args.y.dtype, silu(sum[0]));
}

// A launch of its own: several threads of the general kernel read the window.
__global__ void __launch_bounds__(row_threads) update_window_kernel(Conv1dArgs args) {
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * row_threads + threadIdx.x;
  if (c < args.x.extent[1]) update_window<1>(args, c);
}

// One thread per sequence and channel. Entries and weights of up to common_taps taps are all on
// their way before the first is needed.
__global__ void __launch_bounds__(row_threads) conv1d_step_kernel(Conv1dStepArgs args) {
  overlap_kernels();
  const auto [sequence, c] = row_position<1>(args.x.extent[1]);
  if (c >= args.x.extent[1]) return;
  const std::int64_t past = args.weight.extent[1] - 1;
  const auto weight = [&](std::int64_t k) {
    return load_element(args.weight.at(c, k), args.weight.dtype);
  };
  const auto entry = [&](std::int64_t k) {
    return k < past ? load_element(args.window.at(sequence, k, c), args.window.dtype)
                    : load_element(args.x.at(sequence, c), args.x.dtype);
  };
  const auto move = [&](std::int64_t k, float value) {
    if (k > 0) store_element(args.window.at(sequence, k - 1, c), args.window.dtype, value);
  };
  float sum[1];
  load_bias(args.bias, c, sum);
  if (past < common_taps) {
    float w[common_taps] = {}, x[common_taps] = {};
    with_type(args.weight.dtype, [&](auto type) {
#pragma unroll
      for (int k = 0; k < common_taps; ++k) {
        if (k <= past) w[k] = load_element(args.weight.at(c, k), type);
      }
    });
    with_type(args.window.dtype, [&](auto type) {
#pragma unroll
      for (int k = 0; k < common_taps; ++k) {
        if (k < past) x[k] = load_element(args.window.at(sequence, k, c), type);
      }
    });
#pragma unroll
    for (int k = 0; k < common_taps; ++k) {
      if (k == past) x[k] = load_element(args.x.at(sequence, c), args.x.dtype);
    }
#pragma unroll
    for (int k = 0; k < common_taps; ++k) {
      sum[0] += w[k] * x[k];
      if (k <= past) move(k, x[k]);
    }
  } else {
    for (std::int64_t k = 0; k <= past; ++k) {
      const float value = entry(k);
      sum[0] += weight(k) * value;
      move(k, value);
    }
  }
  store_element(args.y.at(sequence, c), args.y.dtype, silu(sum[0]));
}

}  // namespace

void conv1d(const Conv1dArgs& args, CUstream_st* stream) {
  const auto [tokens, channels] = args.x.extent;
  const std::int64_t taps = args.weight.extent[1];
  if (tokens == 0 || channels == 0) return;
  if (taps == common_taps) {
    const bool vectors = allows_vectors<8>(args.x) && allows_vectors<4>(args.weight) &&
                         allows_vectors<8>(args.y) && allows_vectors<8>(args.bias) &&
                         allows_vectors<8>(args.window);
    with_storage<8>(
        vectors, storage_of(args.x, args.weight, args.y, args.bias), [&]<int N, Storage storage>() {
          const std::int64_t runs = ceil_div(args.x.extent[0], tokens_per_thread);
          const std::int64_t per_row = ceil_div(args.x.extent[1], threads * N);
          launch_overlapping("conv1d launch", conv1d_kernel<N, storage>,
                             static_cast<unsigned>(runs * per_row), threads, stream, args);
        });
    return;
  }
  conv1d_general_kernel<<<row_blocks(tokens, channels, 1), row_threads, 0, stream>>>(args);
  check_cuda(cudaGetLastError(), "conv1d launch");
  if (args.window && taps > 1) {
    update_window_kernel<<<row_blocks(1, channels, 1), row_threads, 0, stream>>>(args);
    check_cuda(cudaGetLastError(), "conv1d window launch");
  }
}

void conv1d_step(const Conv1dStepArgs& args, CUstream_st* stream) {
  const auto [batch, channels] = args.x.extent;
  if (batch == 0 || channels == 0) return;
  launch_overlapping("conv1d_step launch", conv1d_step_kernel, row_blocks(batch, channels, 1),
                     row_threads, stream, args);
}

}  // namespace chunkstate::cuda
