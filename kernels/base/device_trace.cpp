// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/device_trace.hpp"

#include <cxxabi.h>

#include <cstdlib>
#include <string_view>

#if CHUNKSTATE_HAS_CUDA
#include <cuda_runtime_api.h>
#endif
#if CHUNKSTATE_HAS_CUPTI
#include <cupti.h>
#include <dlfcn.h>

#include <map>
#include <mutex>
#include <type_traits>

#include "kernels/base/trace.hpp"
#endif

namespace chunkstate {

std::string short_kernel_name(const char* mangled) {
  int status = -1;
  char* readable = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  if (readable == nullptr) return mangled;
  std::string text;
  int depth = 0;  // of template arguments
  for (const char* c = readable; *c != '\0'; ++c) {
    if (*c == '(' && std::string_view(c).starts_with("(anonymous namespace)::")) {
      c += std::string_view("(anonymous namespace)::").size() - 1;
      continue;
    }
    if (*c == '(' && depth == 0) break;
    if (*c == '<') ++depth;
    if (depth == 0) text += *c;
    if (*c == '>') --depth;
  }
  std::free(readable);
  // A function template is written with its result: "void name".
  if (const auto blank = text.rfind(' '); blank != std::string::npos) text.erase(0, blank + 1);
  return text.empty() ? mangled : text;
}

std::string device_bus_id() {
#if CHUNKSTATE_HAS_CUDA
  int device = 0;
  char text[32] = "";
  if (cudaGetDevice(&device) == cudaSuccess &&
      cudaDeviceGetPCIBusId(text, sizeof text, device) == cudaSuccess) {
    return text;
  }
  static_cast<void>(cudaGetLastError());
#endif
  return "";
}

#if CHUNKSTATE_HAS_CUPTI
namespace {

#if CUPTI_API_VERSION >= 130000
using KernelRecord = CUpti_ActivityKernel10;
using CopyRecord = CUpti_ActivityMemcpy6;
#else
using KernelRecord = CUpti_ActivityKernel9;
using CopyRecord = CUpti_ActivityMemcpy5;
#endif
using FillRecord = CUpti_ActivityMemset4;

constexpr std::size_t buffer_bytes = std::size_t{1} << 20;
constexpr std::size_t buffer_alignment = 8;  // CUPTI's demand
constexpr CUpti_ActivityKind kinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                        CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET};

// The library is looked up at run time: compute nodes have the driver, not always the toolkit.
struct Cupti {
  decltype(&cuptiActivityRegisterTimestampCallback) register_timestamp = nullptr;
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks = nullptr;
  decltype(&cuptiActivityEnable) enable = nullptr;
  decltype(&cuptiActivityDisable) disable = nullptr;
  decltype(&cuptiActivityFlushAll) flush_all = nullptr;
  decltype(&cuptiActivityGetNextRecord) next_record = nullptr;
  decltype(&cuptiActivityGetNumDroppedRecords) dropped_records = nullptr;
  decltype(&cuptiGetResultString) result_string = nullptr;

  std::string load() {
    const std::string name = "libcupti.so." + std::to_string(CUDART_VERSION / 1000);
    void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return name + " not found";
    const auto find = [library](auto& function, const char* symbol) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, symbol));
      return function != nullptr;
    };
    const bool whole = find(register_timestamp, "cuptiActivityRegisterTimestampCallback") &&
                       find(register_callbacks, "cuptiActivityRegisterCallbacks") &&
                       find(enable, "cuptiActivityEnable") &&
                       find(disable, "cuptiActivityDisable") &&
                       find(flush_all, "cuptiActivityFlushAll") &&
                       find(next_record, "cuptiActivityGetNextRecord") &&
                       find(dropped_records, "cuptiActivityGetNumDroppedRecords") &&
                       find(result_string, "cuptiGetResultString");
    return whole ? "" : name + " lacks a function";
  }

  std::string words(CUptiResult result) const {
    const char* text = nullptr;
    if (result_string(result, &text) != CUPTI_SUCCESS || text == nullptr) text = "unknown error";
    return std::string("CUPTI: ") + text;
  }
};

Cupti cupti;
bool device_trace_is_on = false;

std::uint64_t CUPTIAPI timestamp() { return static_cast<std::uint64_t>(trace_clock()); }

void CUPTIAPI give_buffer(std::uint8_t** buffer, std::size_t* size, std::size_t* records) {
  *size = buffer_bytes;
  *records = 0;  // as many as fit
  *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(buffer_alignment, buffer_bytes));
  if (*buffer == nullptr) *size = 0;
}

void add(const char* name, std::uint64_t begin, std::uint64_t end, std::uint32_t device,
         std::uint32_t stream) {
  if (begin == 0 || end < begin) return;  // CUPTI could not time it
  trace::add_device_span(name, static_cast<std::int64_t>(begin), static_cast<std::int64_t>(end),
                         static_cast<int>(device), stream);
}

// Names are looked up once per kernel: the strings of CUPTI's records live as long as the module.
const char* kernel_name(const char* mangled) {
  static std::map<std::string, std::string> names;
  if (mangled == nullptr) return "kernel";
  const auto found = names.find(mangled);
  if (found != names.end()) return found->second.c_str();
  return names.emplace(mangled, short_kernel_name(mangled)).first->second.c_str();
}

const char* copy_name(std::uint8_t kind) {
  switch (kind) {
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD:
      return "copy host to device";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH:
      return "copy device to host";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD:
      return "copy device to device";
    default:
      return "copy";
  }
}

// Called by a thread of CUPTI's, and at the end by ours.
void CUPTIAPI take_buffer(CUcontext context, std::uint32_t stream, std::uint8_t* buffer,
                          std::size_t, std::size_t valid_bytes) {
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  CUpti_Activity* record = nullptr;
  while (valid_bytes > 0 && cupti.next_record(buffer, valid_bytes, &record) == CUPTI_SUCCESS) {
    if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
      const auto& kernel = *reinterpret_cast<const KernelRecord*>(record);
      add(kernel_name(kernel.name), kernel.start, kernel.end, kernel.deviceId, kernel.streamId);
    } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
      const auto& copy = *reinterpret_cast<const CopyRecord*>(record);
      add(copy_name(copy.copyKind), copy.start, copy.end, copy.deviceId, copy.streamId);
    } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
      const auto& fill = *reinterpret_cast<const FillRecord*>(record);
      add("fill", fill.start, fill.end, fill.deviceId, fill.streamId);
    }
  }
  std::free(buffer);
  std::size_t dropped = 0;
  if (cupti.dropped_records(context, stream, &dropped) == CUPTI_SUCCESS) {
    trace::add_dropped(static_cast<std::int64_t>(dropped));
  }
}

}  // namespace

std::string start_device_trace() {
  if (device_trace_is_on) return "";
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    static_cast<void>(cudaGetLastError());
    return "no GPU found";
  }
  if (std::string problem = cupti.load(); !problem.empty()) return problem;
  // The clock first: records keep the clock that they began with.
  CUptiResult result = cupti.register_timestamp(timestamp);
  if (result == CUPTI_SUCCESS) result = cupti.register_callbacks(give_buffer, take_buffer);
  for (const CUpti_ActivityKind kind : kinds) {
    if (result == CUPTI_SUCCESS) result = cupti.enable(kind);
  }
  device_trace_is_on = result == CUPTI_SUCCESS;
  return device_trace_is_on ? "" : cupti.words(result);
}

void stop_device_trace() {
  if (!device_trace_is_on) return;
  device_trace_is_on = false;
  static_cast<void>(cudaDeviceSynchronize());
  static_cast<void>(cupti.flush_all(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED));
  for (const CUpti_ActivityKind kind : kinds) static_cast<void>(cupti.disable(kind));
}

#else

std::string start_device_trace() {
  return CHUNKSTATE_HAS_CUDA ? "built without CUPTI" : "built without CUDA";
}
void stop_device_trace() {}

#endif

}  // namespace chunkstate
