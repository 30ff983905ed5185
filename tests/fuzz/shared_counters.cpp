// SPDX-License-Identifier: Apache-2.0
// Compiled without coverage: instrumented code declares the two symbols below itself.
#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "tests/fuzz/target.hpp"

extern "C" {
// The coverage counters of this program, libFuzzer's and (built for coverage) llvm-cov's; the
// linker names the ends of their sections.
__attribute__((weak, visibility("hidden"))) extern char __start___sancov_cntrs[];
__attribute__((weak, visibility("hidden"))) extern char __stop___sancov_cntrs[];
__attribute__((weak, visibility("hidden"))) extern char __start___llvm_prf_cnts[];
__attribute__((weak, visibility("hidden"))) extern char __stop___llvm_prf_cnts[];
}

namespace chunkstate {

void* shared_memory(std::size_t bytes, void* address) {
  void* memory = ::mmap(address, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | (address != nullptr ? MAP_FIXED : 0), -1, 0);
  expect(memory != MAP_FAILED, "shared memory");
  return memory;
}

namespace {

/// Whole pages. The first is left out, because other variables stand before the section; behind
/// both sections stand tables that nobody writes.
void share(char* section, char* section_end) {
  constexpr std::uintptr_t page = 4096;
  const auto begin = (reinterpret_cast<std::uintptr_t>(section) + page - 1) & ~(page - 1);
  const auto end = (reinterpret_cast<std::uintptr_t>(section_end) + page - 1) & ~(page - 1);
  if (section == nullptr || end <= begin) return;
  auto* memory = reinterpret_cast<char*>(begin);
  const std::string counts(memory, end - begin);
  std::memcpy(shared_memory(end - begin, memory), counts.data(), counts.size());
}

}  // namespace

void share_coverage_counters() {
  share(__start___sancov_cntrs, __stop___sancov_cntrs);
  share(__start___llvm_prf_cnts, __stop___llvm_prf_cnts);
}

}  // namespace chunkstate
