// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "kernels/attention/attention.hpp"
#include "kernels/base/dtype.hpp"
#include "kernels/base/executor.hpp"

namespace chunkstate {

/// How a decode step reaches the device: its launches one by one, or recorded once and replayed.
enum class ExecutionMode : std::uint8_t { eager, graph };

/// How the same mathematics is run: a counterpart of a compiler's modes. Results differ in rounding
/// only.
struct ExecutionOptions {
  ExecutionMode mode = ExecutionMode::eager;
  bool autotune = false;  // time the library's algorithms for each matrix shape, take the fastest
  bool fusion = false;    // decode steps through kernels that do several operators at once
  AttentionChoice attention;
};

/// By the names of the YAML keys: attention "flash" or "naive", attention_block 32, 64, 128 or 0.
/// Throws UsageError.
AttentionChoice attention_choice(const std::string& attention, std::int64_t block);

/// By the names of the YAML keys: mode "auto", "eager" or "graph", autotune "off" or "on", fusion
/// "auto", "off" or "on". `auto` is graph and on where they apply: Backend::cuda, and 16-bit
/// activations for fusion. Throws UsageError for an unknown name and for a value that cannot apply.
ExecutionOptions execution_options(const std::string& mode, const std::string& autotune,
                                   const std::string& fusion, Backend backend, DType dtype);

}  // namespace chunkstate
