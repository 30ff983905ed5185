// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/base/instruction_level.hpp"

// One binary serves machines with AVX-512, with AVX2 and with neither: nothing is compiled with
// -march=native, and the hot functions exist once per instruction set.

/// For plain loops that GCC vectorises: compiles the function for every level; the loader picks one
/// when the program starts. Not for inline or template functions.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CHUNKSTATE_MULTIVERSION \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CHUNKSTATE_MULTIVERSION
#endif

#define CHUNKSTATE_ALWAYS_INLINE inline __attribute__((always_inline))

/// For functions written with vectors of a fixed length: the function is a template over one of the
/// levels below, forced inline into one function per level, between which `select_level` chooses.
#if defined(__x86_64__)
#define CHUNKSTATE_AVX512 __attribute__((target("arch=x86-64-v4")))
#define CHUNKSTATE_AVX512BF16 __attribute__((target("arch=x86-64-v4,avx512bf16")))
#define CHUNKSTATE_AVX2 __attribute__((target("arch=x86-64-v3")))
#else
#define CHUNKSTATE_AVX512
#define CHUNKSTATE_AVX2
#endif

namespace chunkstate {

template <int Lanes>
struct VectorTypes {
  static constexpr int lanes = Lanes;
  typedef float Vector __attribute__((vector_size(Lanes * 4)));
  typedef float Unaligned __attribute__((vector_size(Lanes * 4), aligned(4), may_alias));
  typedef std::uint32_t Bits __attribute__((vector_size(Lanes * 4)));
  typedef std::uint16_t Halves __attribute__((vector_size(Lanes * 2), aligned(2), may_alias));
};

// tile_rows x tile_vectors sums fill the registers of a level while every loaded value is used at
// least twice: 8 x 2 of 32, 6 x 2 of 16.
struct Avx512 : VectorTypes<16> {
  static constexpr int tile_rows = 8;
  static constexpr int tile_vectors = 2;
};
struct Avx2 : VectorTypes<8> {
  static constexpr int tile_rows = 6;
  static constexpr int tile_vectors = 2;
};
struct Baseline : VectorTypes<4> {
  static constexpr int tile_rows = 6;
  static constexpr int tile_vectors = 2;
};

/// The function for the machine that the program runs on.
template <class Function>
Function* select_level(Function* avx512, Function* avx2, Function* baseline) {
#if defined(__x86_64__)
  const InstructionLevel level = instruction_level();
  if (level >= InstructionLevel::avx512) return avx512;
  if (level >= InstructionLevel::avx2) return avx2;
#else
  static_cast<void>(avx512);
  static_cast<void>(avx2);
#endif
  return baseline;
}

}  // namespace chunkstate
