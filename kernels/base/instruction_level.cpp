// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/instruction_level.hpp"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace chunkstate {
namespace {

#if defined(__x86_64__)
// Linux gives a process the 8 KiB of tile registers only on request, and refuses where the kernel
// or the hypervisor does not save them.
bool request_tiles() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned amx_bf16 = 1U << 22, amx_tile = 1U << 24;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  if ((d & amx_bf16) == 0 || (d & amx_tile) == 0) return false;
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

InstructionLevel machine_level(InstructionLevel wanted) {
  if (!__builtin_cpu_supports("x86-64-v3")) return InstructionLevel::baseline;
  if (!__builtin_cpu_supports("x86-64-v4")) return InstructionLevel::avx2;
  if (!__builtin_cpu_supports("avx512bf16")) return InstructionLevel::avx512;
  if (wanted < InstructionLevel::amx || !request_tiles()) return InstructionLevel::avx512bf16;
  return InstructionLevel::amx;
}
#else
InstructionLevel machine_level(InstructionLevel) { return InstructionLevel::baseline; }
#endif

InstructionLevel wanted_level() {
  const char* const name = std::getenv("CHUNKSTATE_ISA");
  if (name == nullptr || *name == '\0') return InstructionLevel::amx;
  for (int level = 0; level <= static_cast<int>(InstructionLevel::amx); ++level) {
    if (name == name_of(static_cast<InstructionLevel>(level))) {
      return static_cast<InstructionLevel>(level);
    }
  }
  throw std::runtime_error("CHUNKSTATE_ISA: found '" + std::string(name) +
                           "', expected baseline, avx2, avx512, avx512bf16 or amx");
}

}  // namespace

InstructionLevel instruction_level() {
  static const InstructionLevel level = [] {
    const InstructionLevel wanted = wanted_level();
    return std::min(wanted, machine_level(wanted));
  }();
  return level;
}

}  // namespace chunkstate
