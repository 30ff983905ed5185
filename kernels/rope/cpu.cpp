// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/base/rows.hpp"
#include "kernels/base/simd.hpp"
#include "kernels/rope/rope.hpp"

namespace chunkstate::cpu {
namespace {

CHUNKSTATE_MULTIVERSION
void turn(const float* cosine, const float* sine, std::int64_t pairs, float* first, float* second) {
#pragma omp simd
  for (std::int64_t i = 0; i < pairs; ++i) {
    const float a = first[i];
    const float b = second[i];
    first[i] = a * cosine[i] - b * sine[i];
    second[i] = b * cosine[i] + a * sine[i];
  }
}

}  // namespace

void rope(const Executor& exec, const RopeArgs& args) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t pairs = args.inverse_frequency.extent[0];
#pragma omp parallel for num_threads(exec.threads) if (tokens > 1)
  for (std::int64_t t = 0; t < tokens; ++t) {
    thread_local Scratch scratch;
    float* cosine = scratch.floats(4 * padded(pairs));
    float* sine = cosine + padded(pairs);
    float* values = sine + padded(pairs);
    // One token's angles serve all its heads, so sine and cosine need no fast version.
    for (std::int64_t i = 0; i < pairs; ++i) {
      const float angle = static_cast<float>(args.positions(t)) * args.inverse_frequency(i);
      cosine[i] = std::cos(angle);
      sine[i] = std::sin(angle);
    }
    for (std::int64_t h = 0; h < args.x.extent[1]; ++h) {
      std::byte* row = args.x.at(t, h, 0);
      float* head = output_row(row, args.x.dtype, values);
      if (head == values) copy_row(row, args.x.dtype, 2 * pairs, values);
      turn(cosine, sine, pairs, head, head + pairs);
      store_row(head, 2 * pairs, row, args.x.dtype);
    }
  }
}

}  // namespace chunkstate::cpu
