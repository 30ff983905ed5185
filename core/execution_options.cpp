// SPDX-License-Identifier: Apache-2.0
#include "core/execution_options.hpp"

#include "core/errors.hpp"

namespace chunkstate {
namespace {

[[noreturn]] void refuse(const std::string& key, const std::string& found,
                         const std::string& expected) {
  throw UsageError("execution." + key + ": found '" + found + "', expected " + expected);
}

bool fuses(const std::string& fusion, Backend backend, DType dtype) {
  const bool applies = backend == Backend::cuda && dtype != DType::fp32;
  if (fusion == "auto") return applies;
  if (fusion == "off") return false;
  if (fusion != "on") refuse("fusion", fusion, "auto, off or on");
  if (backend != Backend::cuda) {
    refuse("fusion", fusion,
           "auto or off: backend " + std::string(name_of(backend)) + " has no fused kernels");
  }
  if (dtype == DType::fp32)
    refuse("fusion", fusion, "auto or off: fused kernels take bf16 or fp16");
  return true;
}

}  // namespace

AttentionChoice attention_choice(const std::string& attention, std::int64_t block) {
  if (attention != "flash" && attention != "naive") {
    refuse("attention", attention, "flash or naive");
  }
  if (block != 0 && block != 32 && block != 64 && block != 128) {
    refuse("attention_block", std::to_string(block), "32, 64, 128 or 0");
  }
  if (attention == "flash") return {AttentionMethod::flash, block};
  if (block != 0)
    refuse("attention_block", std::to_string(block), "0: naive attention has no blocks");
  return {AttentionMethod::naive, 0};
}

ExecutionOptions execution_options(const std::string& mode, const std::string& autotune,
                                   const std::string& fusion, Backend backend, DType dtype) {
  const bool cuda = backend == Backend::cuda;
  const std::string name(name_of(backend));
  ExecutionOptions options;
  if (mode != "auto" && mode != "eager" && mode != "graph") {
    refuse("mode", mode, "auto, eager or graph");
  }
  if (mode == "graph" && !cuda) {
    refuse("mode", mode, "auto or eager: backend " + name + " has no graphs");
  }
  options.mode =
      mode == "graph" || (mode == "auto" && cuda) ? ExecutionMode::graph : ExecutionMode::eager;
  if (autotune != "off" && autotune != "on") refuse("autotune", autotune, "off or on");
  if (autotune == "on" && !cuda) {
    refuse("autotune", autotune, "off: backend " + name + " has nothing to search");
  }
  options.autotune = autotune == "on";
  options.fusion = fuses(fusion, backend, dtype);
  return options;
}

}  // namespace chunkstate
