// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/rows.hpp"

#include <bit>
#include <cstring>

#include "kernels/base/simd.hpp"

namespace chunkstate {
namespace {

CHUNKSTATE_MULTIVERSION
void widen(const bf16* row, std::int64_t count, float* values) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) values[i] = to_float(row[i]);
}

// to_float(fp16) without branches, so that it vectorises.
CHUNKSTATE_MULTIVERSION
void widen(const fp16* row, std::int64_t count, float* values) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t bits = row[i].bits;
    const std::uint32_t magnitude = bits & 0x7FFFU;
    // Exponent and mantissa in fp32's places are 2^112 too small, for subnormals as well.
    const float finite = std::bit_cast<float>(magnitude << 13) * 0x1p112F;
    const std::uint32_t special = magnitude >= 0x7C00U ? 0x7F800000U : 0U;
    const std::uint32_t sign = (bits & 0x8000U) << 16;
    values[i] = std::bit_cast<float>(std::bit_cast<std::uint32_t>(finite) | special | sign);
  }
}

CHUNKSTATE_MULTIVERSION
void narrow(const float* values, std::int64_t count, bf16* row) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(values[i]);
    const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
    const std::uint32_t quiet = (bits >> 16) | 0x40U;
    const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
    row[i].bits = static_cast<std::uint16_t>(is_nan ? quiet : rounded);
  }
}

// from_float<fp16> without branches.
CHUNKSTATE_MULTIVERSION
void narrow(const float* values, std::int64_t count, fp16* row) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(values[i]);
    const std::uint32_t sign = (bits >> 16) & 0x8000U;
    const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
    const float shifted = std::bit_cast<float>(magnitude) + 0.5F;
    const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(shifted) - 0x3F000000U;
    const std::uint32_t rebased = magnitude - ((127U - 15U) << 23);
    std::uint32_t half = (rebased + 0xFFFU + ((rebased >> 13) & 1U)) >> 13;
    half = magnitude < 0x38800000U ? subnormal : half;
    half = magnitude >= 0x477FF000U ? 0x7C00U : half;
    half = magnitude > 0x7F800000U ? 0x7E00U : half;
    row[i].bits = static_cast<std::uint16_t>(sign | half);
  }
}

}  // namespace

void copy_row(const std::byte* row, DType dtype, std::int64_t count, float* values) {
  if (count == 0) return;
  switch (dtype) {
    case DType::fp32:
      std::memcpy(values, row, static_cast<std::size_t>(count) * sizeof(float));
      return;
    case DType::bf16:
      return widen(reinterpret_cast<const bf16*>(row), count, values);
    case DType::fp16:
      return widen(reinterpret_cast<const fp16*>(row), count, values);
  }
}

const float* load_row(const std::byte* row, DType dtype, std::int64_t count, float* scratch) {
  if (dtype == DType::fp32) return reinterpret_cast<const float*>(row);
  copy_row(row, dtype, count, scratch);
  return scratch;
}

void store_row(const float* values, std::int64_t count, std::byte* row, DType dtype) {
  if (count == 0) return;
  switch (dtype) {
    case DType::fp32:
      if (reinterpret_cast<const std::byte*>(values) != row) {
        std::memcpy(row, values, static_cast<std::size_t>(count) * sizeof(float));
      }
      return;
    case DType::bf16:
      return narrow(values, count, reinterpret_cast<bf16*>(row));
    case DType::fp16:
      return narrow(values, count, reinterpret_cast<fp16*>(row));
  }
}

}  // namespace chunkstate
