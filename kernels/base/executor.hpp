// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

struct CUstream_st;  // cudaStream_t is a pointer to this

namespace chunkstate {

/// Who computes. `reference` is the definition: plain loops with double accumulators on the host.
enum class Backend : std::uint8_t { reference, cpu, cuda };

constexpr std::string_view name_of(Backend backend) {
  return backend == Backend::reference ? "reference" : backend == Backend::cpu ? "cpu" : "cuda";
}

/// Where an operator runs: an explicit argument of each of them, never global.
///
/// `threads` (cpu) changes the time and nothing else: every operator fixes the order of its sums
/// independently of the number of threads. `stream` (cuda) orders the launches; operators return
/// before the device is done. `autotune` (cuda) lets matrix products time the library's algorithms
/// for a new shape.
struct Executor {
  Backend backend = Backend::cpu;
  int threads = 1;
  CUstream_st* stream = nullptr;
  bool autotune = false;
};

}  // namespace chunkstate
