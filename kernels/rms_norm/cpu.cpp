// SPDX-License-Identifier: Apache-2.0
#include <cmath>

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

}  // namespace

void rms_norm(const Executor& exec, const RmsNormArgs& args) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t channels = args.x.extent[1];
#pragma omp parallel num_threads(exec.threads) if (tokens > 1)
  {
    thread_local Scratch scratch;
    float* memory = scratch.floats(3 * padded(channels));
    const float* weight = load_row(args.weight.data, args.weight.dtype, channels, memory);
#pragma omp for
    for (std::int64_t t = 0; t < tokens; ++t) {
      const float* x = load_row(args.x.at(t, 0), args.x.dtype, channels, memory + padded(channels));
      float* y = output_row(args.y.at(t, 0), args.y.dtype, memory + 2 * padded(channels));
      normalise(x, weight, channels, args.epsilon, y);
      store_row(y, channels, args.y.at(t, 0), args.y.dtype);
    }
  }
}

}  // namespace chunkstate::cpu
