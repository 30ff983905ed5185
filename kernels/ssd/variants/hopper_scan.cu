// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>

#include "kernels/base/cuda_check.cuh"
#include "kernels/base/memory.hpp"
#include "kernels/base/workspace.cuh"
#include "kernels/ssd/scan_common.cuh"
#include "kernels/ssd/variants/chunked.cuh"
#include "kernels/ssd/variants/hopper_gate.cuh"
#include "kernels/ssd/variants/hopper_helpers.cuh"
#include "kernels/ssd/variants/hopper_products.cuh"
#include "kernels/ssd/variants/hopper_scan.cuh"
#include "kernels/ssd/variants/hopper_state.cuh"

// One block owns one head and walks over the sequence in steps of 64 tokens with the state in fp32
// registers: no state traffic, and at Bamba-9B's 128 heads one wave on 132 multiprocessors. Blocks
// of a cluster of two load B and C once for both (a cluster of four does not fit: 132
// multiprocessors hold 30 of them, and 32 are needed for one wave).
//
// Roles: warp 0 copies in, warp 1 copies out, warps 2 and 3 make the decays, warpgroup 1 makes M,
// warpgroup 2 owns the state and makes y.
namespace chunkstate::cuda {
namespace hopper_scan {
namespace {

__device__ __forceinline__ void prepare(const Scan& scan, const Shared& shared) {
  if (threadIdx.x == 0) {
    for (int s = 0; s < token_slots; ++s) {
      init_barrier(shared.token_full(s), 1 + warp_arrivals);  // the copying thread, decays
      init_barrier(shared.token_empty(s), 2 * warps_per_group * warp_arrivals);  // M, state
    }
    for (int s = 0; s < shared_slots; ++s) {
      init_barrier(shared.shared_full(s), 1);
      init_barrier(shared.shared_empty(s),
                   warps_per_group * scan.cluster);  // of every block's state
    }
    for (int s = 0; s < product_slots; ++s) {
      init_barrier(shared.products_full(s), 1);
      init_barrier(shared.products_empty(s), warps_per_group * warp_arrivals);
    }
    for (int s = 0; s < gate_slots; ++s) {
      init_barrier(shared.gate_full(s), warps_per_group);
      init_barrier(shared.gate_empty(s), warps_per_group);
    }
    for (int s = 0; s < output_slots; ++s) {
      init_barrier(shared.output_full(s), warps_per_group);
      init_barrier(shared.output_empty(s), 1);
    }
    publish_barriers();
  }
  // M's blocks above the diagonal are never written again.
  for (int at = static_cast<int>(threadIdx.x) * 16; at < gate_slots * tile_bytes;
       at += threads * 16) {
    store_shared_16(shared.gate(0) + at, make_uint4(0, 0, 0, 0));
  }
  fence_async();
  synchronize_cluster();
}

template <Flow flow>
__device__ __forceinline__ void scan_head(const Maps& maps, const Scan& scan, const Shared& shared,
                                          int head) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int heads = static_cast<int>(scan.args.x.extent[1]);
  const int group = head / (heads / static_cast<int>(scan.args.B.extent[1]));
  if (warp < warps_per_group) {
    give_registers<56>();
    if (warp == 0) {
      if (lane == 0) copy_in<flow>(scan, maps, shared, head, group);
    } else if (warp == 1) {
      if (lane == 0) copy_out(scan, maps, shared, head);
    } else {
      DecayMaker<flow>(scan, shared, head, lane).run(warp - 2);
    }
  } else if (warp < 2 * warps_per_group) {
    give_registers<120>();
    GateMaker<flow>(scan, shared, head, warp % warps_per_group, lane).run();
  } else {
    take_registers<248>();
    State<flow>(scan, shared, warp % warps_per_group, lane).run();
  }
}

template <Flow flow>
__global__ void __launch_bounds__(threads, 1)
    scan_kernel(const __grid_constant__ Maps maps, const __grid_constant__ Scan scan) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ std::uint8_t memory[];
  const Shared shared(memory);
  prepare(scan, shared);
  scan_head<flow>(maps, scan, shared, static_cast<int>(blockIdx.x));
  // No block may leave while another can still write its shared memory or signal its barriers.
  __syncwarp();
  synchronize_cluster();
#endif
}

template <Flow flow>
void launch(const Maps& maps, Scan scan, CUstream_st* stream) {
  constexpr int round_to = flow == Flow::chunks_of_4 ? 4 : 1;
  scan.steps = static_cast<int>(ceil_div(scan.blocks, round_to)) * round_to;
  const auto kernel = scan_kernel<flow>;
  check_cuda(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Shared::bytes()),
      "ssd_scan hopper shared memory");
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(scan.args.x.extent[1]));
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = Shared::bytes();
  config.stream = stream;
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {static_cast<unsigned>(scan.cluster), 1, 1};
  // Starts beside the kernel that makes C B^T and waits for it where it needs the result.
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  config.attrs = attributes;
  config.numAttrs = 2;
  check_cuda(cudaLaunchKernelEx(&config, kernel, maps, scan), "ssd_scan hopper launch");
}

void launch_for(SsdSemantics semantics, const Maps& maps, const Scan& scan, CUstream_st* stream) {
  switch (semantics) {
    case SsdSemantics::exact:
      return launch<Flow::exact>(maps, scan, stream);
    case SsdSemantics::lookback:
      return launch<Flow::lookback>(maps, scan, stream);
    case SsdSemantics::own_end_state:
      return launch<Flow::twice>(maps, scan, stream);
    case SsdSemantics::independent:
      break;
  }
  if (scan.first_block == 0 && scan.chunk_blocks == 4)
    return launch<Flow::chunks_of_4>(maps, scan, stream);
  launch<Flow::chunks>(maps, scan, stream);
}

// [tokens, columns, inner] as the copy engine's [tokens, columns * inner].
template <class Byte>
bool is_plain_matrix(const BasicAnyView<Byte, 3>& view) {
  const bool rows_fit = view.extent[0] <= 1 || view.stride[0] % 8 == 0;
  const bool inner_packed = view.extent[1] <= 1 || view.stride[1] == view.extent[2];
  return view.dtype == DType::bf16 && reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0 &&
         rows_fit && inner_packed;
}

template <class Byte>
CUtensorMap map_of(const BasicAnyView<Byte, 3>& view, int box_rows) {
  const std::int64_t columns = view.extent[1] * view.extent[2];
  const std::int64_t pitch = view.extent[0] > 1 ? view.stride[0] : columns;
  return bf16_tile_map(view.data, columns, view.extent[0], pitch, box_rows);
}

bool fits(SsdSemantics semantics, const SsdArgs& args) {
  const bool blocks_fit = semantics == SsdSemantics::exact ||
                          (args.chunk_size % block == 0 && args.first_position % block == 0);
  const bool slots_fit =
      semantics != SsdSemantics::lookback ||
      (args.state ? args.state.extent[0] - 1 : args.lookback) < most_lookback_slots;
  return device_limits().compute_capability == 90 && blocks_fit && slots_fit &&
         args.x.extent[2] == head_dim && args.B.extent[2] == state_dim &&
         args.x.extent[0] <= std::numeric_limits<int>::max() / 2 && is_plain_matrix(args.x) &&
         is_plain_matrix(args.B) && is_plain_matrix(args.C) && is_plain_matrix(args.y) &&
         args.dt.dtype == DType::bf16 && allows_vectors<4>(args.state);
}

std::int64_t products_bytes(const SsdArgs& args) {
  return args.B.extent[1] * ceil_div(args.x.extent[0], block) * fragment_bytes;
}

void run(SsdSemantics semantics, const SsdArgs& args, CUstream_st* stream) {
  const auto [tokens, heads, width] = args.x.extent;
  const std::int64_t groups = args.B.extent[1];
  // A chunk longer than the sequence so far means the same as one that ends with it.
  const std::int64_t chunk_blocks =
      ceil_div(std::min(args.chunk_size, args.first_position + tokens), block);
  Scan scan{};
  scan.args = args;
  scan.tokens = static_cast<int>(tokens);
  scan.blocks = static_cast<int>(ceil_div(tokens, block));
  scan.chunk_blocks = static_cast<int>(chunk_blocks);
  scan.first_block = static_cast<int>(args.first_position / block % chunk_blocks);
  const Workspace workspace(products_bytes(args), stream);
  auto* const products = workspace.as<uint4>();
  scan.products = products;

  // The slots of lookback in fp32, whatever they are stored as: they are updated chunk by chunk.
  const bool looks_back = semantics == SsdSemantics::lookback;
  const bool own_slots = looks_back && (!args.state || args.state.dtype != DType::fp32);
  const std::int64_t chunk = args.first_position / block / chunk_blocks;
  const std::int64_t chunks = ceil_div(scan.first_block + scan.blocks, chunk_blocks);
  const std::int64_t slots = !looks_back  ? 1
                             : args.state ? args.state.extent[0]
                                          : std::min(args.lookback, chunks - 1) + 1;
  const std::int64_t elements = slots * heads * head_dim * state_dim;
  const Workspace slot_memory(own_slots ? elements * 4 : 0, stream);
  scan.has_state = static_cast<bool>(args.state);
  scan.first_chunk = static_cast<int>(chunk % slots);
  if (own_slots) {
    scan.args.state = {
        slot_memory.as<std::byte>(), DType::fp32, {slots, heads, head_dim, state_dim}};
    if (args.state) load_state(args.state, elements, slot_memory.as<float>(), stream);
  }

  scan.cluster = heads / groups % 2 == 0 ? 2 : 1;
  // After whatever was launched above: the scan itself waits for this launch alone.
  product_kernel<<<static_cast<unsigned>(groups * scan.blocks), group_threads, 0, stream>>>(
      scan, products);
  check_cuda(cudaGetLastError(), "ssd_scan product launch");
  const int rows = block / scan.cluster;
  launch_for(
      semantics,
      {map_of(args.x, block), map_of(args.B, rows), map_of(args.C, rows), map_of(args.y, block)},
      scan, stream);
  if (own_slots) store_state(args.state, elements, slot_memory.as<float>(), stream);
}

}  // namespace
}  // namespace hopper_scan

std::int64_t ssd_fused_scratch(const SsdArgs& args) {
  const bool may_fit = args.x.dtype == DType::bf16 && args.x.extent[2] == hopper_scan::head_dim &&
                       args.B.extent[2] == hopper_scan::state_dim;
  return may_fit ? scratch_size(hopper_scan::products_bytes(args)) : 0;
}

std::int64_t ssd_lookback_scratch(const SsdArgs& args) {
  const std::int64_t slots = args.state ? args.state.extent[0] : args.lookback + 1;
  const std::int64_t elements = slots * args.x.extent[1] * args.x.extent[2] * args.B.extent[2];
  return ssd_fused_scratch(args) + scratch_size(elements * 4);
}

bool ssd_hopper(SsdSemantics semantics, const SsdArgs& args, CUstream_st* stream) {
  if (!hopper_scan::fits(semantics, args)) return false;
  if (args.x.extent[0] > 0 && args.x.extent[1] > 0) hopper_scan::run(semantics, args, stream);
  return true;
}

}  // namespace chunkstate::cuda
