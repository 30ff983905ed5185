// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/variants.hpp"

#include "kernels/ssd/ssd.hpp"
#include "kernels/ssd/variants_cuda.hpp"

namespace chunkstate {

// Each in variants/<name>.cpp.
namespace cpu {
void sequential(const Executor& exec, const SsdArgs& args);
void default_scan(const Executor& exec, const SsdArgs& args);
void default_optimized(const Executor& exec, const SsdArgs& args);
void independent(const Executor& exec, const SsdArgs& args);
void lookback(const Executor& exec, const SsdArgs& args);
void own_end_state(const Executor& exec, const SsdArgs& args);
}  // namespace cpu

namespace {

// nullptr in a build without the CUDA backend, which has no such function to point to.
template <void (*function)(const SsdArgs&, CUstream_st*)>
constexpr auto gpu() -> void (*)(const SsdArgs&, CUstream_st*) {
  if constexpr (CHUNKSTATE_HAS_CUDA) return function;
  return nullptr;
}

template <std::int64_t (*function)(const SsdArgs&)>
constexpr auto gpu() -> std::int64_t (*)(const SsdArgs&) {
  if constexpr (CHUNKSTATE_HAS_CUDA) return function;
  return nullptr;
}

constexpr SsdVariant variants[] = {
    {.name = "sequential",
     .summary = "Token by token: the definition.",
     .semantics = SsdSemantics::exact,
     .tolerance = 1e-5F,
     .cpu = cpu::sequential,
     .cuda = gpu<cuda::ssd_sequential>()},
    {.name = "default",
     .summary = "Stage by stage with all intermediates in memory: the baseline.",
     .semantics = SsdSemantics::exact,
     .tolerance = 1e-5F,
     .cpu = cpu::default_scan,
     .cuda = gpu<cuda::ssd_default>(),
     .cuda_scratch = gpu<cuda::ssd_default_scratch>()},
    {.name = "default_optimized",
     .summary = "Fused, blocked and vectorised; exact for every chunk size.",
     .semantics = SsdSemantics::exact,
     .tolerance = 1e-5F,
     .cpu = cpu::default_optimized,
     .cuda = gpu<cuda::ssd_default_optimized>(),
     .cuda_scratch = gpu<cuda::ssd_fused_scratch>()},
    {.name = "independent",
     .summary = "Every chunk starts from a zero state.",
     .semantics = SsdSemantics::independent,
     .tolerance = 1e-5F,
     .cpu = cpu::independent,
     .cuda = gpu<cuda::ssd_independent>(),
     .cuda_scratch = gpu<cuda::ssd_fused_scratch>()},
    {.name = "lookback",
     .summary = "The state of the current and of at most k previous chunks.",
     .semantics = SsdSemantics::lookback,
     .tolerance = 1e-5F,
     .cpu = cpu::lookback,
     .cuda = gpu<cuda::ssd_lookback>(),
     .cuda_scratch = gpu<cuda::ssd_lookback_scratch>()},
    {.name = "own_end_state",
     .summary =
         "Every token also reads its own chunk's end state, as the seed project's code does.",
     .semantics = SsdSemantics::own_end_state,
     .tolerance = 1e-5F,
     .cpu = cpu::own_end_state,
     .cuda = gpu<cuda::ssd_own_end_state>(),
     .cuda_scratch = gpu<cuda::ssd_fused_scratch>()},
};

}  // namespace

std::span<const SsdVariant> ssd_variants() { return variants; }

const SsdVariant* find_ssd_variant(std::string_view name) {
  for (const SsdVariant& variant : variants) {
    if (variant.name == name) return &variant;
  }
  return nullptr;
}

std::int64_t state_slots(const SsdVariant& variant, std::int64_t lookback) {
  return variant.semantics == SsdSemantics::lookback ? lookback + 1 : 1;
}

}  // namespace chunkstate
