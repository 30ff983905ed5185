// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/base/bf16_rows.hpp"
#include "kernels/base/bf16_tiles.hpp"
#include "kernels/base/rows.hpp"
#include "kernels/base/simd.hpp"
#include "kernels/base/vector_math.hpp"
#include "kernels/silu_mul/silu_mul.hpp"

namespace chunkstate::cpu {
namespace {

// Columns of one piece: small enough for the first-level cache, and enough pieces for the threads
// when there is one token.
constexpr std::int64_t piece_columns = 2048;

CHUNKSTATE_MULTIVERSION
void multiply(const float* gate, const float* up, std::int64_t count, float* y) {
#pragma omp simd
  for (std::int64_t c = 0; c < count; ++c) y[c] = fast_silu(gate[c]) * up[c];
}

}  // namespace

void silu_mul(const Executor& exec, const SiluMulArgs& args) {
  const std::int64_t tokens = args.gate.extent[0];
  const std::int64_t channels = args.gate.extent[1];
  const std::int64_t pieces = (channels + piece_columns - 1) / piece_columns;
  const bool rows_of_bf16 = args.gate.dtype == DType::bf16 && args.up.dtype == DType::bf16 &&
                            args.y.dtype == DType::bf16 && has_bf16_tiles();
#pragma omp parallel for collapse(2) num_threads(exec.threads) if (tokens * pieces > 1)
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
      thread_local Scratch scratch;
      float* memory = scratch.floats(3 * piece_columns);
      const std::int64_t begin = piece * piece_columns;
      const std::int64_t count = std::min(piece_columns, channels - begin);
      if (rows_of_bf16) {
        silu_mul_row(reinterpret_cast<const bf16*>(args.gate.at(t, begin)),
                     reinterpret_cast<const bf16*>(args.up.at(t, begin)), count,
                     reinterpret_cast<bf16*>(args.y.at(t, begin)));
        continue;
      }
      const float* gate = load_row(args.gate.at(t, begin), args.gate.dtype, count, memory);
      const float* up =
          load_row(args.up.at(t, begin), args.up.dtype, count, memory + piece_columns);
      std::byte* row = args.y.at(t, begin);
      float* y = output_row(row, args.y.dtype, memory + 2 * piece_columns);
      multiply(gate, up, count, y);
      store_row(y, count, row, args.y.dtype);
    }
  }
}

}  // namespace chunkstate::cpu
