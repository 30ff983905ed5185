// SPDX-License-Identifier: Apache-2.0
#include "kernels/selective_scan/variants.hpp"

#include "kernels/selective_scan/selective_scan.hpp"

namespace chunkstate {

// eager in eager.cpp and eager.cu, the others in cpu.cpp and cuda.cu.
namespace cpu {
void selective_scan_eager(const Executor& exec, const SelectiveScanArgs& args);
void selective_scan_fused(const Executor& exec, const SelectiveScanArgs& args);
void selective_scan_fused_block(const Executor& exec, const SelectiveScanArgs& args);
void selective_scan_chunked(const Executor& exec, const SelectiveScanArgs& args);
}  // namespace cpu
namespace cuda {
void selective_scan_eager(const SelectiveScanArgs& args, CUstream_st* stream);
void selective_scan_fused(const SelectiveScanArgs& args, CUstream_st* stream);
void selective_scan_fused_block(const SelectiveScanArgs& args, CUstream_st* stream);
void selective_scan_chunked(const SelectiveScanArgs& args, CUstream_st* stream);
std::int64_t selective_scan_eager_scratch(const SelectiveScanArgs& args);
std::int64_t selective_scan_fused_scratch(const SelectiveScanArgs& args);
std::int64_t selective_scan_chunked_scratch(const SelectiveScanArgs& args);
}  // namespace cuda

namespace {

// nullptr in a build without the CUDA backend, which has no such function to point to.
template <void (*function)(const SelectiveScanArgs&, CUstream_st*)>
constexpr auto gpu() -> void (*)(const SelectiveScanArgs&, CUstream_st*) {
  if constexpr (CHUNKSTATE_HAS_CUDA) return function;
  return nullptr;
}

template <std::int64_t (*function)(const SelectiveScanArgs&)>
constexpr auto gpu() -> std::int64_t (*)(const SelectiveScanArgs&) {
  if constexpr (CHUNKSTATE_HAS_CUDA) return function;
  return nullptr;
}

std::int64_t count(bool holds) { return holds ? 1 : 0; }

// Step sizes (sum, softplus), decays (product, exp), what is written (two products), the start
// state, two operations per token, the read-out, skip and gate (two each), the end state.
std::int64_t eager_launches(const SelectiveScanArgs& args) {
  return 1 + count(args.softplus) + 2 + 2 + 1 + 2 * args.x.extent[1] + 1 +
         2 * count(static_cast<bool>(args.D)) + 2 * count(static_cast<bool>(args.z)) +
         count(static_cast<bool>(args.state));
}
// Step sizes, scan, skip and gate.
std::int64_t fused_launches(const SelectiveScanArgs&) { return 3; }
std::int64_t fused_block_launches(const SelectiveScanArgs&) { return 1; }
// End states of the chunks, their passing on, scan. One chunk is fused_block.
std::int64_t chunked_launches(const SelectiveScanArgs& args) {
  return args.x.extent[1] <= args.chunk_size ? 1 : 3;
}

constexpr SelectiveScanVariant variants[] = {
    {.name = "eager",
     .summary = "One operation after another, all discretised states in memory: the baseline.",
     .tolerance = 1e-5F,
     .cpu = cpu::selective_scan_eager,
     .cuda = gpu<cuda::selective_scan_eager>(),
     .launches = eager_launches,
     .cuda_scratch = gpu<cuda::selective_scan_eager_scratch>()},
    {.name = "fused",
     .summary = "Scan and read-out in one pass, no state in memory; softplus, skip and gate apart.",
     .tolerance = 1e-5F,
     .cpu = cpu::selective_scan_fused,
     .cuda = gpu<cuda::selective_scan_fused>(),
     .launches = fused_launches,
     .cuda_scratch = gpu<cuda::selective_scan_fused_scratch>()},
    {.name = "fused_block",
     .summary = "One pass for all: softplus, discretisation, scan, read-out, skip and gate.",
     .tolerance = 1e-5F,
     .cpu = cpu::selective_scan_fused_block,
     .cuda = gpu<cuda::selective_scan_fused_block>(),
     .launches = fused_block_launches},
    {.name = "chunked",
     .summary = "Chunks side by side: their end states first, then fused_block from each start.",
     .tolerance = 1e-5F,
     .cpu = cpu::selective_scan_chunked,
     .cuda = gpu<cuda::selective_scan_chunked>(),
     .launches = chunked_launches,
     .cuda_scratch = gpu<cuda::selective_scan_chunked_scratch>()},
};

}  // namespace

std::span<const SelectiveScanVariant> selective_scan_variants() { return variants; }

const SelectiveScanVariant* find_selective_scan_variant(std::string_view name) {
  for (const SelectiveScanVariant& variant : variants) {
    if (variant.name == name) return &variant;
  }
  return nullptr;
}

}  // namespace chunkstate
