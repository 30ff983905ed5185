// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/base/rows.hpp"
#include "kernels/base/simd.hpp"
#include "kernels/base/vector_math.hpp"
#include "kernels/gated_rms_norm/gated_rms_norm.hpp"

namespace chunkstate::cpu {
namespace {

CHUNKSTATE_MULTIVERSION
void gate_and_normalise(const float* x, const float* z, const float* weight, std::int64_t channels,
                        float epsilon, float* y) {
  float squares = 0.0F;
#pragma omp simd reduction(+ : squares)
  for (std::int64_t c = 0; c < channels; ++c) {
    const float v = x[c] * fast_silu(z[c]);
    squares += v * v;
    y[c] = v;
  }
  const float scale = 1.0F / std::sqrt(squares / static_cast<float>(channels) + epsilon);
#pragma omp simd
  for (std::int64_t c = 0; c < channels; ++c) y[c] = weight[c] * (y[c] * scale);
}

}  // namespace

void gated_rms_norm(const Executor& exec, const GatedRmsNormArgs& args) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t channels = args.x.extent[1];
  const std::int64_t width = channels / args.groups;
#pragma omp parallel num_threads(exec.threads) if (tokens > 1)
  {
    thread_local Scratch scratch;
    const std::int64_t row = padded(channels);
    float* memory = scratch.floats(4 * row);
    const float* weight = load_row(args.weight.data, args.weight.dtype, channels, memory);
#pragma omp for
    for (std::int64_t t = 0; t < tokens; ++t) {
      const float* x = load_row(args.x.at(t, 0), args.x.dtype, channels, memory + row);
      const float* z = load_row(args.z.at(t, 0), args.z.dtype, channels, memory + 2 * row);
      float* y = output_row(args.y.at(t, 0), args.y.dtype, memory + 3 * row);
      for (std::int64_t c = 0; c < channels; c += width) {
        gate_and_normalise(x + c, z + c, weight + c, width, args.epsilon, y + c);
      }
      store_row(y, channels, args.y.at(t, 0), args.y.dtype);
    }
  }
}

}  // namespace chunkstate::cpu
