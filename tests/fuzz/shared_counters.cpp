// SPDX-License-Identifier: Apache-2.0
// Compiled without coverage: instrumented code declares the two symbols below itself.
#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "tests/fuzz/target.hpp"

extern "C" {
// The coverage counters of this program; the linker names the ends of their section.
__attribute__((weak, visibility("hidden"))) extern char __start___sancov_cntrs[];
__attribute__((weak, visibility("hidden"))) extern char __stop___sancov_cntrs[];
}

namespace chunkstate {

void* shared_memory(std::size_t bytes, void* address) {
  void* memory = ::mmap(address, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | (address != nullptr ? MAP_FIXED : 0), -1, 0);
  expect(memory != MAP_FAILED, "shared memory");
  return memory;
}

void share_coverage_counters() {
  constexpr std::uintptr_t page = 4096;
  // Whole pages. The first is left out, because variables stand before the section; behind it
  // stands the table of its addresses, which nobody writes.
  const auto begin =
      (reinterpret_cast<std::uintptr_t>(__start___sancov_cntrs) + page - 1) & ~(page - 1);
  const auto end =
      (reinterpret_cast<std::uintptr_t>(__stop___sancov_cntrs) + page - 1) & ~(page - 1);
  if (end <= begin) return;  // built to measure coverage: there are no counters
  auto* memory = reinterpret_cast<char*>(begin);
  const std::string counts(memory, end - begin);
  std::memcpy(shared_memory(end - begin, memory), counts.data(), counts.size());
}

}  // namespace chunkstate
