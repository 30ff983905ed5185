// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/base/elements.cuh"

// What the norms over a row share: one block per row, which stays in registers between the sum of
// squares and the product with the weights.
namespace chunkstate::row_norm {

/// Vectors of a thread. All their loads are on their way at once, and a row of 4096 needs 128
/// threads only, so that a multiprocessor has many rows in different phases.
inline constexpr int kept = 4;
inline constexpr int max_threads = 512;

inline unsigned threads(std::int64_t channels, int n) {
  return threads_per_row(channels, n * kept);
}

/// y = weight * v / sqrt(mean(v^2) + epsilon) for row `token`, in fp32, where
/// `input.load(channel, Stored&)` asks for what N channels are made of and `input.value(Stored,
/// float(&)[N])` makes v of it; `input.keep(channel, v)`, if there is one, is called before y of
/// these channels is stored and after all loads of other threads. Rows beyond kept * max_threads
/// vectors are read twice. Called by whole blocks, once. Where a row's channels are shared out: the
/// squares of all rows, and how many channels they are of.
template <int N, Storage storage, class Input, class Args>
__device__ __forceinline__ void normalize(const Args& args, std::int64_t token, const Input& input,
                                          const float* squares = nullptr,
                                          std::int64_t squares_channels = 0) {
  using Stored = typename Input::Stored;
  const int channels = static_cast<int>(args.x.extent[1]);
  const int first = static_cast<int>(threadIdx.x) * N, step = static_cast<int>(blockDim.x) * N;
  // Every load is made, beyond the row its last vector again: one behind a condition would be made
  // where it is used.
  const auto channel = [&](int i) { return min(first + i * step, channels - N); };
  Stored stored[kept];
  float value[kept][N], sum_of_squares = 0.0F;
#pragma unroll
  for (int i = 0; i < kept; ++i) input.load(channel(i), stored[i]);
#pragma unroll
  for (int i = 0; i < kept; ++i) {
    input.value(stored[i], value[i]);
    float sum = 0.0F;
#pragma unroll
    for (int k = 0; k < N; ++k) sum += value[i][k] * value[i][k];
    if (first + i * step < channels) sum_of_squares += sum;
  }
  for (int c = first + kept * step; c < channels; c += step) {
    Stored more;
    float v[N];
    input.load(c, more);
    input.value(more, v);
#pragma unroll
    for (int k = 0; k < N; ++k) sum_of_squares += v[k] * v[k];
  }

  StoredElements<N, storage> weight[kept];  // asked for before the threads meet
#pragma unroll
  for (int i = 0; i < kept; ++i) weight[i].load(args.weight.data, channel(i), args.weight.dtype);
  sum_of_squares = block_sum(sum_of_squares);
  auto all_channels = static_cast<float>(channels);
  if (squares != nullptr) {
    sum_of_squares = squares[token];
    all_channels = static_cast<float>(squares_channels);
  }
  const float scale = 1.0F / sqrtf(sum_of_squares / all_channels + args.epsilon);

  const auto store = [&](int c, const StoredElements<N, storage>& factors, float(&v)[N]) {
    float factor[N];
    factors.unpack(factor);
    if constexpr (requires { input.keep(c, v); }) input.keep(c, v);
#pragma unroll
    for (int k = 0; k < N; ++k) v[k] *= scale * factor[k];
    store_elements(args.y.at(token, c), type_of<storage>(args.y.dtype), v);
  };
#pragma unroll
  for (int i = 0; i < kept; ++i) {
    if (first + i * step < channels) store(first + i * step, weight[i], value[i]);
  }
  for (int c = first + kept * step; c < channels; c += step) {
    Stored more;
    float v[N];
    input.load(c, more);
    input.value(more, v);
    weight[0].load(args.weight.data, c, args.weight.dtype);
    store(c, weight[0], v);
  }
}

}  // namespace chunkstate::row_norm
