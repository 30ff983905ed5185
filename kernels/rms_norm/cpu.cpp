// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/base/bf16_rows.hpp"
#include "kernels/base/bf16_tiles.hpp"
#include "kernels/base/rows.hpp"
#include "kernels/base/simd.hpp"
#include "kernels/rms_norm/rms_norm.hpp"

namespace chunkstate::cpu {
namespace {

CHUNKSTATE_MULTIVERSION
void normalise(const float* x, const float* weight, std::int64_t channels, float epsilon,
               float* y) {
  float squares = 0.0F;
#pragma omp simd reduction(+ : squares)
  for (std::int64_t c = 0; c < channels; ++c) squares += x[c] * x[c];
  const float scale = 1.0F / std::sqrt(squares / static_cast<float>(channels) + epsilon);
#pragma omp simd
  for (std::int64_t c = 0; c < channels; ++c) y[c] = weight[c] * (x[c] * scale);
}

CHUNKSTATE_MULTIVERSION
void add(const float* a, const float* b, std::int64_t count, float* sum) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) sum[i] = a[i] + b[i];
}

/// x + add of a token as it is stored in `sum`; `memory` holds two padded rows.
const float* add_row(const RmsNormArgs& args, std::int64_t t, const float* x, float* memory) {
  const std::int64_t channels = args.x.extent[1];
  const float* const added = load_row(args.add.at(t, 0), args.add.dtype, channels, memory);
  std::byte* const stored = args.sum.at(t, 0);
  float* const sum = output_row(stored, args.sum.dtype, memory + padded(channels));
  add(x, added, channels, sum);
  store_row(sum, channels, stored, args.sum.dtype);
  return load_row(stored, args.sum.dtype, channels, memory + padded(channels));
}

}  // namespace

void rms_norm(const Executor& exec, const RmsNormArgs& args) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t channels = args.x.extent[1];
  const bool rows_of_bf16 =
      args.x.dtype == DType::bf16 && args.y.dtype == DType::bf16 && !args.add && has_bf16_tiles();
#pragma omp parallel num_threads(exec.threads) if (tokens > 1)
  {
    thread_local Scratch scratch;
    float* memory = scratch.floats(5 * padded(channels));
    const float* weight = load_row(args.weight.data, args.weight.dtype, channels, memory);
#pragma omp for
    for (std::int64_t t = 0; t < tokens; ++t) {
      if (rows_of_bf16) {
        float* const copy = memory + padded(channels);
        const float squares =
            square_row(reinterpret_cast<const bf16*>(args.x.at(t, 0)), channels, copy);
        const float mean = squares / static_cast<float>(channels);
        scale_row(copy, weight, 1.0F / std::sqrt(mean + args.epsilon), channels,
                  reinterpret_cast<bf16*>(args.y.at(t, 0)));
        continue;
      }
      const float* x = load_row(args.x.at(t, 0), args.x.dtype, channels, memory + padded(channels));
      if (args.add) x = add_row(args, t, x, memory + 3 * padded(channels));
      float* y = output_row(args.y.at(t, 0), args.y.dtype, memory + 2 * padded(channels));
      normalise(x, weight, channels, args.epsilon, y);
      store_row(y, channels, args.y.at(t, 0), args.y.dtype);
    }
  }
}

}  // namespace chunkstate::cpu
