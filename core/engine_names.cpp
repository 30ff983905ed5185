// SPDX-License-Identifier: Apache-2.0
#include "core/engine_names.hpp"

#include <sched.h>

#include <algorithm>

#include "core/errors.hpp"
#include "kernels/base/device_trace.hpp"
#include "kernels/base/memory.hpp"

namespace chunkstate {

DType dtype_from_name(const std::string& name) {
  for (const DType dtype : {DType::fp32, DType::bf16, DType::fp16}) {
    if (name == name_of(dtype)) return dtype;
  }
  throw UsageError("dtype: found '" + name + "', expected fp32, bf16 or fp16");
}

void take_gpu(int local_rank) {
  const int count = device_count();
  if (count > 0) use_device(local_rank % count);
}

std::string gpu_bus_id() { return device_bus_id(); }

Backend backend_from_name(const std::string& name) {
  if (name == "auto") return device_count() > 0 ? Backend::cuda : Backend::cpu;
  for (const Backend backend : {Backend::reference, Backend::cpu, Backend::cuda}) {
    if (name != name_of(backend)) continue;
    if (backend == Backend::cuda && device_count() == 0) {
      throw UsageError(CHUNKSTATE_HAS_CUDA ? "backend cuda: no GPU found"
                                           : "backend cuda: not in this build (configure with "
                                             "-DCHUNKSTATE_CUDA=ON)");
    }
    return backend;
  }
  throw UsageError("backend: found '" + name + "', expected auto, cpu, cuda or reference");
}

int resolve_threads(int threads, int processes_on_host) {
  if (threads > 0) return threads;
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return 1;
  return std::max(1, CPU_COUNT(&allowed) / std::max(1, processes_on_host));
}

}  // namespace chunkstate
