// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

/// "fp32", "bf16", "fp16". Throws UsageError.
DType dtype_from_name(const std::string& name);

/// "cpu", "cuda", "reference", or "auto": cuda if this build has it and a GPU is present, else cpu.
/// Throws UsageError; "cuda" without a GPU is one.
Backend backend_from_name(const std::string& name);

/// Makes the GPU number `local_rank`, modulo their number, the one that `cuda` computes on; nothing
/// without a GPU. Before anything else asks for one.
void take_gpu(int local_rank);

/// The PCI address of the GPU that `cuda` computes on, "0000:3b:00.0"; empty without one.
std::string gpu_bus_id();

/// `threads` if positive, else the CPUs this process may run on, divided by `processes_on_host`.
int resolve_threads(int threads, int processes_on_host = 1);

}  // namespace chunkstate
