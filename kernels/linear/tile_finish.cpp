// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear/tile_finish.hpp"

#include <algorithm>

#include "kernels/base/avx512_math.hpp"
#include "kernels/base/bf16_tiles.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

// GCC 12 finds fault with its own intrinsics, which start from an undefined vector.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace chunkstate::cpu {
namespace {

#if defined(__x86_64__)
CHUNKSTATE_AVX512BF16 inline __m512 load_masked(const std::byte* from, DType dtype,
                                                __mmask16 mask) {
  if (dtype == DType::fp32) return _mm512_maskz_loadu_ps(mask, from);
  const __m256i bits = _mm256_maskz_loadu_epi16(mask, from);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

/// 16 results of one token: scale (sums + bias) (+ y), rounded once.
CHUNKSTATE_AVX512BF16 void finish_line(const LinearArgs& args, std::int64_t t, std::int64_t output,
                                       std::int64_t count, const float* sums) {
  const auto mask = static_cast<__mmask16>((1U << count) - 1);
  __m512 value = _mm512_load_ps(sums);
  if (args.bias)
    value = _mm512_add_ps(value, load_masked(args.bias.at(output), args.bias.dtype, mask));
  if (args.scale != 1.0F) value = _mm512_mul_ps(value, _mm512_set1_ps(args.scale));
  std::byte* const y = args.y.at(t, output);
  if (args.accumulate) value = _mm512_add_ps(value, load_masked(y, args.y.dtype, mask));
  if (args.y.dtype == DType::fp32) {
    _mm512_mask_storeu_ps(y, mask, value);
  } else {
    _mm256_mask_storeu_epi16(y, mask, (__m256i)_mm512_cvtneps_pbh(value));
  }
}

/// Whether y, bf16, is so long that its lines have left the second cache before they are read: then
/// they go past the caches, which would have to read each of them first.
bool streams(const LinearArgs& args) {
  constexpr std::int64_t cached_bytes = std::int64_t{4} << 20;
  const std::int64_t row_bytes = args.y.stride[0] * 2;
  return !args.accumulate && args.y.extent[0] * row_bytes > cached_bytes && row_bytes % 64 == 0 &&
         reinterpret_cast<std::uintptr_t>(args.y.data) % 64 == 0;
}

/// The same of `tokens` tokens and a whole line of 32 results each, bf16 and without bias.
template <bool past_caches>
CHUNKSTATE_AVX512BF16 void finish_lines(const LinearArgs& args, std::int64_t first_token,
                                        std::int64_t tokens, std::int64_t output, const float* low,
                                        const float* high) {
  const __m512 scale = _mm512_set1_ps(args.scale);
  for (std::int64_t i = 0; i < tokens; ++i) {
    __m512 first = _mm512_mul_ps(_mm512_load_ps(low + i * 16), scale);
    __m512 second = _mm512_mul_ps(_mm512_load_ps(high + i * 16), scale);
    std::byte* const y = args.y.at(first_token + i, output);
    if (args.accumulate) {
      const __m512i old = _mm512_loadu_si512(y);
      const __m512i bits = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(old));
      const __m512i more = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(old, 1));
      first = _mm512_add_ps(first, _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)));
      second = _mm512_add_ps(second, _mm512_castsi512_ps(_mm512_slli_epi32(more, 16)));
    }
    if constexpr (past_caches) {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(y), round_pair(first, second));
    } else {
      _mm512_storeu_si512(y, round_pair(first, second));
    }
  }
}

/// Who has seen what this thread stores next then sees the lines that went past the caches.
void end_streaming() { _mm_sfence(); }
#else
void end_streaming() {}
void finish_line(const LinearArgs&, std::int64_t, std::int64_t, std::int64_t, const float*) {}
bool streams(const LinearArgs&) { return false; }
template <bool past_caches>
void finish_lines(const LinearArgs&, std::int64_t, std::int64_t, std::int64_t, const float*,
                  const float*) {}
#endif

}  // namespace

void finish_block(const LinearArgs& args, std::int64_t first_token, std::int64_t tokens,
                  std::int64_t first_output, bool turned, const float* sums) {
  const std::int64_t outputs = std::min(panel_width, args.weight.extent[0] - first_output);
  const bool lines = outputs == panel_width && !args.bias && args.y.dtype == DType::bf16;
  const bool streaming = lines && streams(args);
  alignas(64) float tiles[2][256];
  for (std::int64_t t = 0; t < tokens; t += 16) {
    const std::int64_t count = std::min<std::int64_t>(tokens - t, 16);
    const float* halves[2];
    for (std::int64_t half = 0; half < 2; ++half) {
      halves[half] = sums + (turned ? half * 2 + t / 16 : t / 16 * 2 + half) * 256;
      if (!turned || half * 16 >= outputs) continue;
      turn_sums(halves[half], tiles[half]);
      halves[half] = tiles[half];
    }
    if (lines) {
      (streaming ? finish_lines<true> : finish_lines<false>)(args, first_token + t, count,
                                                             first_output, halves[0], halves[1]);
      continue;
    }
    for (std::int64_t o = 0; o < outputs; o += 16) {
      for (std::int64_t i = 0; i < count; ++i) {
        finish_line(args, first_token + t + i, first_output + o,
                    std::min<std::int64_t>(outputs - o, 16), halves[o / 16] + i * 16);
      }
    }
  }
  if (streaming) end_streaming();
}

}  // namespace chunkstate::cpu
