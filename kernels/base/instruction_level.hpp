// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace chunkstate {

/// What the CPU's instructions offer, each level with all below it: vectors of 4, 8 and 16 floats,
/// bf16 dot products into fp32 sums (AVX512_BF16), and tiles of them (AMX).
enum class InstructionLevel : std::uint8_t { baseline, avx2, avx512, avx512bf16, amx };

constexpr std::string_view name_of(InstructionLevel level) {
  constexpr std::string_view names[] = {"baseline", "avx2", "avx512", "avx512bf16", "amx"};
  return names[static_cast<int>(level)];
}

/// The highest level of this machine, or the one that the environment variable CHUNKSTATE_ISA
/// names, if that is lower; asked once per process. Asks the kernel for the tiles' registers.
/// Throws std::runtime_error for an unknown name.
InstructionLevel instruction_level();

}  // namespace chunkstate
