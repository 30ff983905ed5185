// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

/// What libFuzzer calls with every input. A parser may throw what its contract names, which the
/// target catches; anything else ends the process and is a finding.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace chunkstate {

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// A finding of the target's own, beside crashes: what was accepted contradicts itself.
inline void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "expected: %s\n", what);
  std::abort();
}

/// Anonymous memory that child processes write to as well; at `address`, if one is given.
void* shared_memory(std::size_t bytes, void* address = nullptr);
/// Lets libFuzzer see which code the child processes reach.
void share_coverage_counters();

}  // namespace chunkstate
