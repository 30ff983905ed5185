// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/dot.hpp"

#include "kernels/base/simd.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
// GCC 12 finds fault with its own intrinsics, which start from an undefined vector.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace chunkstate {
namespace {

// Rows that are read side by side: enough independent sums to hide the latency of a multiply-add,
// and few enough streams for the hardware prefetchers.
constexpr int side_by_side = 4;

struct Rows {
  const std::byte* weight;
  std::int64_t weight_row;
  std::int64_t depth;
  const float* x;
  std::int64_t x_row;
  float* sums;
  std::int64_t sums_row;
};

struct Bf16Rows {
  const bf16* weight;
  std::int64_t weight_row;
  std::int64_t depth;
  const bf16* x;
  std::int64_t x_row;
  float* sums;
  std::int64_t sums_row;
};

// Vectors are handed over by reference: by value their calling convention would depend on the
// level.
template <class Level>
CHUNKSTATE_ALWAYS_INLINE void load(const float* at, typename Level::Vector& vector) {
  vector = *reinterpret_cast<const typename Level::Unaligned*>(at);
}

template <class Level>
CHUNKSTATE_ALWAYS_INLINE void load_bits(const std::uint16_t* at, typename Level::Bits& bits) {
  bits = __builtin_convertvector(*reinterpret_cast<const typename Level::Halves*>(at),
                                 typename Level::Bits);
}

template <class Level>
CHUNKSTATE_ALWAYS_INLINE void load(const bf16* at, typename Level::Vector& vector) {
  typename Level::Bits bits;
  load_bits<Level>(&at->bits, bits);
  vector = reinterpret_cast<typename Level::Vector>(bits << 16);
}

// As to_float(fp16): exponent and mantissa in fp32's places are 2^112 too small.
template <class Level>
CHUNKSTATE_ALWAYS_INLINE void load(const fp16* at, typename Level::Vector& vector) {
  using Bits = typename Level::Bits;
  using Vector = typename Level::Vector;
  Bits bits;
  load_bits<Level>(&at->bits, bits);
  const Bits magnitude = bits & 0x7FFFU;
  const Vector finite = reinterpret_cast<Vector>(magnitude << 13) * 0x1p112F;
  const Bits special = reinterpret_cast<Bits>(magnitude >= 0x7C00U) & 0x7F800000U;
  vector =
      reinterpret_cast<Vector>(reinterpret_cast<Bits>(finite) | special | ((bits & 0x8000U) << 16));
}

template <class Level>
CHUNKSTATE_ALWAYS_INLINE float sum_lanes(typename Level::Vector& vector) {
  for (int half = Level::lanes / 2; half > 0; half /= 2) {
    typename Level::Bits other;
    for (int lane = 0; lane < Level::lanes; ++lane) {
      other[lane] = static_cast<std::uint32_t>(lane ^ half);
    }
    vector += __builtin_shuffle(vector, other);
  }
  return vector[0];
}

template <class Level, class T, int Tokens, int Count>
CHUNKSTATE_ALWAYS_INLINE void dot(const Rows& rows, std::int64_t first) {
  using Vector = typename Level::Vector;
  const T* const weight = reinterpret_cast<const T*>(rows.weight) + first * rows.weight_row;
  Vector sum[Count][Tokens] = {};
  std::int64_t k = 0;
  for (; k + Level::lanes <= rows.depth; k += Level::lanes) {
    Vector x[Tokens];
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) load<Level>(rows.x + t * rows.x_row + k, x[t]);
#pragma GCC unroll 4
    for (int r = 0; r < Count; ++r) {
      Vector w;
      load<Level>(weight + r * rows.weight_row + k, w);
      // The same place of the rows after these: their first lines would otherwise be waited for.
      __builtin_prefetch(weight + (r + Count) * rows.weight_row + k, 0, 2);
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t) sum[r][t] += w * x[t];
    }
  }
  for (int r = 0; r < Count; ++r) {
    for (int t = 0; t < Tokens; ++t) {
      float total = sum_lanes<Level>(sum[r][t]);
      for (std::int64_t rest = k; rest < rows.depth; ++rest) {
        total += to_float(weight[r * rows.weight_row + rest]) * rows.x[t * rows.x_row + rest];
      }
      rows.sums[t * rows.sums_row + first + r] = total;
    }
  }
}

template <class Level, class T, int Tokens>
CHUNKSTATE_ALWAYS_INLINE void dot_tokens(const Rows& rows, std::int64_t count) {
  std::int64_t r = 0;
  for (; r + side_by_side <= count; r += side_by_side) dot<Level, T, Tokens, side_by_side>(rows, r);
  for (; r < count; ++r) dot<Level, T, Tokens, 1>(rows, r);
}

template <class Level, class T>
CHUNKSTATE_ALWAYS_INLINE void dot_typed(const Rows& rows, std::int64_t count, std::int64_t tokens) {
  switch (tokens) {
    case 1:
      return dot_tokens<Level, T, 1>(rows, count);
    case 2:
      return dot_tokens<Level, T, 2>(rows, count);
    case 3:
      return dot_tokens<Level, T, 3>(rows, count);
    default:
      return dot_tokens<Level, T, 4>(rows, count);
  }
}

template <class Level>
CHUNKSTATE_ALWAYS_INLINE void dot_level(DType dtype, const Rows& rows, std::int64_t count,
                                        std::int64_t tokens) {
  switch (dtype) {
    case DType::fp32:
      return dot_typed<Level, float>(rows, count, tokens);
    case DType::bf16:
      return dot_typed<Level, bf16>(rows, count, tokens);
    case DType::fp16:
      return dot_typed<Level, fp16>(rows, count, tokens);
  }
}

CHUNKSTATE_AVX512 void dot_avx512(DType dtype, const Rows& rows, std::int64_t count,
                                  std::int64_t tokens) {
  dot_level<Avx512>(dtype, rows, count, tokens);
}
CHUNKSTATE_AVX2 void dot_avx2(DType dtype, const Rows& rows, std::int64_t count,
                              std::int64_t tokens) {
  dot_level<Avx2>(dtype, rows, count, tokens);
}
void dot_baseline(DType dtype, const Rows& rows, std::int64_t count, std::int64_t tokens) {
  dot_level<Baseline>(dtype, rows, count, tokens);
}

#if defined(__x86_64__)
/// The sums of eight vectors, each added up as sum_lanes does, bit by bit: with a third of the
/// instructions, because a step's sums of two vectors share one.
CHUNKSTATE_AVX512BF16 inline __m256 sum_eight(const __m512 (&v)[8]) {
  __m512 eighths[4];  // [of v0, of v1]
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    eighths[i] = _mm512_add_ps(_mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0x44),
                               _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0xEE));
  }
  __m512 quarters[2];  // [of v0, v1, v2, v3]
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    quarters[i] = _mm512_add_ps(_mm512_shuffle_f32x4(eighths[2 * i], eighths[2 * i + 1], 0x88),
                                _mm512_shuffle_f32x4(eighths[2 * i], eighths[2 * i + 1], 0xDD));
  }
  const __m512 halves = _mm512_add_ps(_mm512_shuffle_ps(quarters[0], quarters[1], 0x44),
                                      _mm512_shuffle_ps(quarters[0], quarters[1], 0xEE));
  const __m512 sums = _mm512_add_ps(_mm512_shuffle_ps(halves, halves, 0x88),
                                    _mm512_shuffle_ps(halves, halves, 0xDD));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
  return _mm512_castps512_ps256(_mm512_permutexvar_ps(order, sums));
}

/// `Count` rows and `Tokens` tokens, 32 products at a time.
template <int Tokens, int Count>
CHUNKSTATE_AVX512BF16 inline void dot_bf16(const Bf16Rows& rows, std::int64_t first) {
  const bf16* const weight = rows.weight + first * rows.weight_row;
  __m512 sum[Count][Tokens];
#pragma GCC unroll 8
  for (int r = 0; r < Count; ++r) {
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) sum[r][t] = _mm512_setzero_ps();
  }
  for (std::int64_t k = 0; k < rows.depth; k += 32) {
    const std::int64_t left = rows.depth - k;
    const __mmask32 mask = left >= 32 ? ~__mmask32{0} : static_cast<__mmask32>((1U << left) - 1);
    __m512bh x[Tokens];
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) {
      x[t] = (__m512bh)_mm512_maskz_loadu_epi16(mask, rows.x + t * rows.x_row + k);
    }
#pragma GCC unroll 8
    for (int r = 0; r < Count; ++r) {
      const bf16* const w = weight + r * rows.weight_row + k;
      __builtin_prefetch(w + Count * rows.weight_row, 0, 2);  // as above
      const auto line = (__m512bh)_mm512_maskz_loadu_epi16(mask, w);
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t) sum[r][t] = _mm512_dpbf16_ps(sum[r][t], line, x[t]);
    }
  }
  if constexpr (Count == 8) {
#pragma GCC unroll 4
    for (int t = 0; t < Tokens; ++t) {
      const __m512 rows_of[8] = {sum[0][t], sum[1][t], sum[2][t], sum[3][t],
                                 sum[4][t], sum[5][t], sum[6][t], sum[7][t]};
      _mm256_storeu_ps(rows.sums + t * rows.sums_row + first, sum_eight(rows_of));
    }
  } else if constexpr (Count == 4 && Tokens == 4) {
#pragma GCC unroll 2
    for (int t = 0; t < Tokens; t += 2) {
      const __m512 rows_of[8] = {sum[0][t],     sum[1][t],     sum[2][t],     sum[3][t],
                                 sum[0][t + 1], sum[1][t + 1], sum[2][t + 1], sum[3][t + 1]};
      const __m256 sums = sum_eight(rows_of);
      float* const at = rows.sums + t * rows.sums_row + first;
      _mm_storeu_ps(at, _mm256_castps256_ps128(sums));
      _mm_storeu_ps(at + rows.sums_row, _mm256_extractf128_ps(sums, 1));
    }
  } else {
#pragma GCC unroll 8
    for (int r = 0; r < Count; ++r) {
#pragma GCC unroll 4
      for (int t = 0; t < Tokens; ++t) {
        auto vector = (Avx512::Vector)sum[r][t];
        rows.sums[t * rows.sums_row + first + r] = sum_lanes<Avx512>(vector);
      }
    }
  }
}

template <int Tokens>
CHUNKSTATE_AVX512BF16 inline void dot_bf16_tokens(const Bf16Rows& rows, std::int64_t count) {
  // As many sums as hide the latency of a dot product.
  constexpr int at_once = Tokens <= 2 ? 8 : 4;
  std::int64_t r = 0;
  for (; r + at_once <= count; r += at_once) dot_bf16<Tokens, at_once>(rows, r);
  for (; r < count; ++r) dot_bf16<Tokens, 1>(rows, r);
}

CHUNKSTATE_AVX512BF16 void dot_bf16_count(const Bf16Rows& rows, std::int64_t count,
                                          std::int64_t tokens) {
  switch (tokens) {
    case 1:
      return dot_bf16_tokens<1>(rows, count);
    case 2:
      return dot_bf16_tokens<2>(rows, count);
    case 3:
      return dot_bf16_tokens<3>(rows, count);
    default:
      return dot_bf16_tokens<4>(rows, count);
  }
}
#else
void dot_bf16_count(const Bf16Rows&, std::int64_t, std::int64_t) {}
#endif

}  // namespace

bool has_bf16_dot() { return instruction_level() >= InstructionLevel::avx512bf16; }

void dot_rows(const ConstAnyView<2>& weight, std::int64_t begin, std::int64_t count, const bf16* x,
              std::int64_t x_row, std::int64_t tokens, float* sums, std::int64_t sums_row) {
  dot_bf16_count({.weight = reinterpret_cast<const bf16*>(weight.at(begin, 0)),
                  .weight_row = weight.stride[0],
                  .depth = weight.extent[1],
                  .x = x,
                  .x_row = x_row,
                  .sums = sums,
                  .sums_row = sums_row},
                 count, tokens);
}

void dot_rows(const ConstAnyView<2>& weight, std::int64_t begin, std::int64_t count, const float* x,
              std::int64_t x_row, std::int64_t tokens, float* sums, std::int64_t sums_row) {
  static const auto run = select_level(dot_avx512, dot_avx2, dot_baseline);
  run(weight.dtype,
      {.weight = weight.at(begin, 0),
       .weight_row = weight.stride[0],
       .depth = weight.extent[1],
       .x = x,
       .x_row = x_row,
       .sums = sums,
       .sums_row = sums_row},
      count, tokens);
}

}  // namespace chunkstate
