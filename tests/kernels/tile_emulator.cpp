// SPDX-License-Identifier: Apache-2.0
// Linked to the kernels' tests, it gives them a machine with AMX: instruction_level() says so, and
// the tile instructions, which the processor refuses, are done by the handler of SIGILL.
// What they do: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.
#include <cpuid.h>
#include <signal.h>
#include <ucontext.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/base/instruction_level.hpp"

namespace chunkstate {
namespace {

constexpr int tile_rows = 16, tile_columns = 16;  // of 4 bytes: floats, or pairs of bf16

struct Tile {
  float rows[tile_rows][tile_columns];
};

// The configuration that kernels/base/bf16_tiles.cpp loads: eight tiles of 16 rows of 64 bytes.
thread_local std::array<Tile, 8> tiles;
thread_local bool configured = false;
std::atomic<std::int64_t> products = 0;

struct Operands {
  const std::uint8_t* next = nullptr;  // the instruction behind
  bool memory = false;
  std::uint8_t* base = nullptr;
  std::int64_t stride = 0;
  int reg = 0, rm = 0;  // of ModRM
};

std::int64_t register_value(const ucontext_t& context, int number) {
  constexpr int places[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                            REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return context.uc_mcontext.gregs[places[number]];
}

/// ModRM, SIB and displacement; `extension`: the inverted bits R, X, B of the VEX prefix.
Operands operands(const std::uint8_t* at, std::uint8_t extension, const ucontext_t& context) {
  const std::uint8_t modrm = *at++;
  const int mod = modrm >> 6;
  Operands result;
  result.memory = mod != 3;
  result.reg = modrm >> 3 & 7;
  result.rm = modrm & 7;
  result.next = at;
  if (!result.memory) return result;
  int base = result.rm;
  if (base == 4) {  // SIB
    const std::uint8_t sib = *at++;
    const int index = (sib >> 3 & 7) | ((extension & 0x40) ? 0 : 8);
    if (index != 4) result.stride = register_value(context, index) << (sib >> 6);
    base = sib & 7;
  }
  const bool based = mod != 0 || base != 5;
  std::int64_t address = 0;
  if (based) address = register_value(context, base | ((extension & 0x20) ? 0 : 8));
  if (mod == 1) {
    address += static_cast<std::int8_t>(*at++);
  } else if (mod == 2 || !based) {
    std::int32_t displacement = 0;
    std::memcpy(&displacement, at, sizeof(displacement));
    address += displacement;
    at += sizeof(displacement);
  }
  result.base = reinterpret_cast<std::uint8_t*>(address);
  result.next = at;
  return result;
}

float bf16_at(const Tile& tile, int row, int column, int half) {
  std::uint32_t pair = 0;
  std::memcpy(&pair, &tile.rows[row][column], sizeof(pair));
  const std::uint32_t bits = half == 0 ? pair << 16 : pair & 0xffff0000U;
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

void multiply(Tile& sum, const Tile& a, const Tile& b) {
  float columns[2][tile_rows][tile_columns];
  for (int half = 0; half < 2; ++half) {
    for (int k = 0; k < tile_rows; ++k) {
      for (int n = 0; n < tile_columns; ++n) columns[half][k][n] = bf16_at(b, k, n, half);
    }
  }
  for (int m = 0; m < tile_rows; ++m) {
    float parts[2][tile_columns] = {};
    for (int half = 0; half < 2; ++half) {
      for (int k = 0; k < tile_columns; ++k) {
        const float x = bf16_at(a, m, k, half);
        for (int n = 0; n < tile_columns; ++n) parts[half][n] += x * columns[half][k][n];
      }
    }
    for (int n = 0; n < tile_columns; ++n) sum.rows[m][n] += parts[0][n] + parts[1][n];
  }
  products.fetch_add(1, std::memory_order_relaxed);
}

/// Whether it was a tile instruction that is allowed here; then it is done.
bool emulate(ucontext_t& context) {
  const auto* code = reinterpret_cast<const std::uint8_t*>(context.uc_mcontext.gregs[REG_RIP]);
  constexpr std::uint8_t three_byte_vex = 0xc4, map_0f38 = 2;
  if (code[0] != three_byte_vex || (code[1] & 0x1f) != map_0f38) return false;
  enum Prefix : std::uint8_t { none, p66, f3, f2 };
  const auto prefix = static_cast<Prefix>(code[2] & 3);
  const std::uint8_t opcode = code[3];
  const Operands o = operands(code + 4, code[1], context);
  if (opcode == 0x49 && prefix == none) {  // ldtilecfg, tilerelease
    configured = o.memory;
    tiles = {};
  } else if (!configured) {
    return false;
  } else if (opcode == 0x49 && prefix == f2) {  // tilezero
    tiles[o.reg] = {};
  } else if (opcode == 0x4b && o.memory && prefix != none) {  // tileloadd, tileloaddt1, tilestored
    for (int row = 0; row < tile_rows; ++row) {
      std::uint8_t* const line = o.base + row * o.stride;
      float* const of_tile = tiles[o.reg].rows[row];
      if (prefix == f3) {
        std::memcpy(line, of_tile, sizeof(Tile::rows[0]));
      } else {
        std::memcpy(of_tile, line, sizeof(Tile::rows[0]));
      }
    }
  } else if (opcode == 0x5c && prefix == f3 && !o.memory) {  // tdpbf16ps
    const int b = ~(code[2] >> 3) & 7;
    multiply(tiles[o.reg], tiles[o.rm], tiles[b]);
  } else {
    return false;
  }
  context.uc_mcontext.gregs[REG_RIP] = reinterpret_cast<std::int64_t>(o.next);
  return true;
}

void on_illegal_instruction(int, siginfo_t*, void* context) {
  if (!emulate(*static_cast<ucontext_t*>(context))) ::signal(SIGILL, SIG_DFL);  // comes again
}

/// Tests that never multiplied tiles have not tested what they are for.
void say_products() {
  std::printf("%lld products of tiles\n", static_cast<long long>(products.load()));
  std::fflush(stdout);
  if (products == 0) std::_Exit(1);
}

[[noreturn]] void skip(const char* reason) {
  std::printf("skipped: %s\n", reason);
  std::fflush(stdout);
  std::_Exit(77);
}

[[maybe_unused]] const bool is_needed = [] {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned amx_tile = 1U << 24;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & amx_tile) != 0) {
    skip("the processor has AMX, kernels_test uses it");
  }
  if (!__builtin_cpu_supports("avx512bf16")) skip("what is around the tiles needs AVX512_BF16");
  return std::atexit(say_products) == 0;
}();

}  // namespace

/// Who uses tiles asks first. Each time the handler is installed: Catch2 does so in every test.
InstructionLevel instruction_level() {
  struct sigaction action = {};
  action.sa_sigaction = on_illegal_instruction;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGILL, &action, nullptr);
  return InstructionLevel::amx;
}

}  // namespace chunkstate
