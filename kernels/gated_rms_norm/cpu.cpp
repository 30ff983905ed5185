// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/base/bf16_rows.hpp"
#include "kernels/base/bf16_tiles.hpp"
#include "kernels/base/rows.hpp"
#include "kernels/base/simd.hpp"
#include "kernels/base/vector_math.hpp"
#include "kernels/gated_rms_norm/gated_rms_norm.hpp"

namespace chunkstate::cpu {
namespace {

// y = x silu(z); the sum of its squares.
CHUNKSTATE_MULTIVERSION
float gate(const float* x, const float* z, std::int64_t channels, float* y) {
  float squares = 0.0F;
#pragma omp simd reduction(+ : squares)
  for (std::int64_t c = 0; c < channels; ++c) {
    const float v = x[c] * fast_silu(z[c]);
    squares += v * v;
    y[c] = v;
  }
  return squares;
}

CHUNKSTATE_MULTIVERSION
void scale_row(const float* weight, std::int64_t channels, float scale, float* y) {
#pragma omp simd
  for (std::int64_t c = 0; c < channels; ++c) y[c] = weight[c] * (y[c] * scale);
}

/// One token whose rows are bf16. `values`: scratch of a group.
void normalise_bf16(const GatedRmsNormArgs& args, std::int64_t t, const float* weight,
                    std::int64_t width, float channels, float* values) {
  const auto* const x = reinterpret_cast<const bf16*>(args.x.at(t, 0));
  const auto* const z = reinterpret_cast<const bf16*>(args.z.at(t, 0));
  auto* const y = reinterpret_cast<bf16*>(args.y.at(t, 0));
  for (std::int64_t c = 0; c < args.x.extent[1]; c += width) {
    const float own = gate_row(x + c, z + c, width, values);
    const float squares = args.squares ? args.squares(t) : own;
    const float scale = 1.0F / std::sqrt(squares / channels + args.epsilon);
    chunkstate::scale_row(values, weight + c, scale, width, y + c);
  }
}

}  // namespace

void gated_rms_norm(const Executor& exec, const GatedRmsNormArgs& args) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t channels = args.x.extent[1];
  const std::int64_t width = channels / args.groups;
  const auto all = static_cast<float>(args.squares ? args.squares_channels : width);
  const bool rows_of_bf16 = args.x.dtype == DType::bf16 && args.z.dtype == DType::bf16 &&
                            args.y.dtype == DType::bf16 && has_bf16_tiles();
#pragma omp parallel num_threads(exec.threads) if (tokens > 1)
  {
    thread_local Scratch scratch;
    const std::int64_t row = padded(channels);
    float* memory = scratch.floats(4 * row);
    const float* weight = load_row(args.weight.data, args.weight.dtype, channels, memory);
#pragma omp for
    for (std::int64_t t = 0; t < tokens; ++t) {
      if (rows_of_bf16) {
        normalise_bf16(args, t, weight, width, all, memory + row);
        continue;
      }
      const float* x = load_row(args.x.at(t, 0), args.x.dtype, channels, memory + row);
      const float* z = load_row(args.z.at(t, 0), args.z.dtype, channels, memory + 2 * row);
      float* y = output_row(args.y.at(t, 0), args.y.dtype, memory + 3 * row);
      for (std::int64_t c = 0; c < channels; c += width) {
        const float own = gate(x + c, z + c, width, y + c);
        const float squares = args.squares ? args.squares(t) : own;
        scale_row(weight + c, width, 1.0F / std::sqrt(squares / all + args.epsilon), y + c);
      }
      store_row(y, channels, args.y.at(t, 0), args.y.dtype);
    }
  }
}

void gated_squares(const Executor& exec, const GatedRmsNormArgs& args) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t channels = args.x.extent[1];
#pragma omp parallel num_threads(exec.threads) if (tokens > 1)
  {
    thread_local Scratch scratch;
    const std::int64_t row = padded(channels);
    float* memory = scratch.floats(3 * row);
#pragma omp for
    for (std::int64_t t = 0; t < tokens; ++t) {
      const float* x = load_row(args.x.at(t, 0), args.x.dtype, channels, memory);
      const float* z = load_row(args.z.at(t, 0), args.z.dtype, channels, memory + row);
      args.squares(t) = gate(x, z, channels, memory + 2 * row);
    }
  }
}

}  // namespace chunkstate::cpu
