// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "kernels/base/cuda_check.cuh"
#include "kernels/base/workspace.cuh"
#include "kernels/ssd/scan_common.cuh"
#include "kernels/ssd/variants/chunked.cuh"
#include "kernels/ssd/variants/hopper_helpers.cuh"
#include "kernels/ssd/variants/hopper_outputs.cuh"
#include "kernels/ssd/variants/hopper_scan.cuh"
#include "kernels/ssd/variants/hopper_state.cuh"

// One block owns one head and walks over the sequence in steps of 64 tokens with the state in fp32
// registers: no state traffic, and at Bamba-9B's 128 heads one wave on 132 multiprocessors. C B^T
// is the same for all heads of a group, so a small kernel makes it once per step. Blocks of a
// cluster of two load B and C once for both (a cluster of four does not fit: 132 multiprocessors
// hold 30 of them, and 32 are needed for one wave).
//
// Roles: warp 0 copies in, warp 1 copies out, warps 2 and 3 make the decays, warpgroup 1 the
// outputs, warpgroup 2 owns the state.
namespace chunkstate::cuda {
namespace hopper_scan {
namespace {

// C_i B_j of one step and group as fragments, bf16, on and below the diagonal.
__global__ void __launch_bounds__(128) product_kernel(Scan scan, uint4* products) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  constexpr int product_pitch = state_dim + 8;  // the rows of a fragment fall into different banks
  __shared__ __align__(16) __nv_bfloat16 C[block * product_pitch], B[block * product_pitch];
  let_next_kernel_start();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % warp_size;
  const int warp = thread / warp_size;
  const int step = static_cast<int>(blockIdx.x % scan.blocks);
  const int group = static_cast<int>(blockIdx.x / scan.blocks);
#pragma unroll
  for (int k = 0; k < block * state_dim / 8 / 128; ++k) {
    const int index = k * 128 + thread, row = index >> 4, column = (index & 15) * 8;
    const int token = step * block + row;
    uint4 c = make_uint4(0, 0, 0, 0), b = c;
    if (token < scan.tokens) {
      c = *reinterpret_cast<const uint4*>(scan.args.C.at(token, group, column));
      b = *reinterpret_cast<const uint4*>(scan.args.B.at(token, group, column));
    }
    *reinterpret_cast<uint4*>(&C[row * product_pitch + column]) = c;
    *reinterpret_cast<uint4*>(&B[row * product_pitch + column]) = b;
  }
  __syncthreads();

  float sum[8][4] = {};
  const std::uint32_t c_row =
      shared_address(&C[(warp * 16 + (lane & 15)) * product_pitch + (lane >> 4) * 8]);
  const std::uint32_t b_row =
      shared_address(&B[((lane & 7) + (lane >> 4) * 8) * product_pitch + ((lane >> 3) & 1) * 8]);
#pragma unroll
  for (int k = 0; k < state_dim / 16; ++k) {
    std::uint32_t c[4];
    load_fragments(c, c_row + k * 32);
#pragma unroll
    for (int n = 0; n < block / 16; ++n) {
      if (n > warp) continue;
      std::uint32_t b[4];
      load_fragments(b, b_row + n * 16 * product_pitch * 2 + k * 32);
      multiply_fragments<DType::bf16>(sum[2 * n], c, b[0], b[1]);
      multiply_fragments<DType::bf16>(sum[2 * n + 1], c, b[2], b[3]);
    }
  }
  uint4* const out =
      products + (static_cast<std::int64_t>(group) * scan.blocks + step) * (fragment_bytes / 16) +
      fragment_block(warp, 0) * warp_size + lane;
#pragma unroll
  for (int n = 0; n < block / 16; ++n) {
    if (n > warp) continue;
    const float(&left)[4] = sum[2 * n], (&right)[4] = sum[2 * n + 1];
    out[n * warp_size] = make_uint4(pack_bf16(left[0], left[1]), pack_bf16(left[2], left[3]),
                                    pack_bf16(right[0], right[1]), pack_bf16(right[2], right[3]));
  }
#endif
}

template <int cluster>
__device__ __forceinline__ void prepare(const Shared& shared) {
  if (threadIdx.x == 0) {
    for (int s = 0; s < token_slots; ++s) {
      init_barrier(shared.token_full(s), 2);   // the copying thread, a warp of decays
      init_barrier(shared.token_empty(s), 8);  // the warps of outputs and state
    }
    for (int s = 0; s < shared_slots; ++s) {
      init_barrier(shared.shared_full(s), 1);
      init_barrier(shared.shared_empty(s), 4 * cluster);  // the state's warps of every block
    }
    for (int s = 0; s < output_slots; ++s) {
      init_barrier(shared.read_full(s), 4);
      init_barrier(shared.output_full(s), 4);
      init_barrier(shared.output_empty(s), 1);
    }
    publish_barriers();
  }
  __syncthreads();
  if constexpr (cluster > 1) synchronize_cluster();
}

template <int cluster, int period>
__global__ void __launch_bounds__(threads, 1)
    scan_kernel(const __grid_constant__ Maps maps, const __grid_constant__ Scan scan) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ std::uint8_t memory[];
  const Shared shared(memory);
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const int head = static_cast<int>(blockIdx.x);
  const int group = head / static_cast<int>(gridDim.x / scan.args.B.extent[1]);
  prepare<cluster>(shared);

  if (warp < helper_warps) {
    give_registers<40>();
    if (warp == 0) {
      if (lane == 0) copy_in<cluster>(scan, maps, shared, head, group);
    } else if (warp == 1) {
      if (lane == 0) copy_out(scan, maps, shared, head);
    } else {
      DecayMaker(scan, shared, head, lane).run(warp - 2);
    }
  } else if (warp < helper_warps + 4 * output_groups) {
    give_registers<120>();
    Outputs outputs(scan, shared, head, group, warp % 4, lane);
    wait_for_previous_kernel();  // C_i B_j
    outputs.run<period>(warp / 4 - 1);
  } else {
    take_registers<232>();
    State<cluster> state(scan, shared, head, warp % 4, lane);
    state.load();
    state.template run<period>();
    state.store();
  }
  // No block may leave while another can still write its shared memory or signal its barriers.
  __syncwarp();
  if constexpr (cluster > 1) synchronize_cluster();
#endif
}

template <int cluster, int period>
void launch(const Maps& maps, Scan scan, CUstream_st* stream) {
  constexpr int round_to = period > 1 ? period : 2;
  scan.steps = static_cast<int>(ceil_div(scan.blocks, round_to)) * round_to;
  const auto kernel = scan_kernel<cluster, period>;
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
  attributes[0].val.clusterDim = {cluster, 1, 1};
  // Starts beside the kernel that makes C B^T and waits for it where it needs the result.
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  config.attrs = attributes;
  config.numAttrs = 2;
  check_cuda(cudaLaunchKernelEx(&config, kernel, maps, scan), "ssd_scan hopper launch");
}

template <int cluster>
void launch_for(const Maps& maps, const Scan& scan, CUstream_st* stream) {
  if (scan.chunk_blocks == 0) return launch<cluster, 0>(maps, scan, stream);
  if (scan.first_block == 0 && scan.chunk_blocks == 2)
    return launch<cluster, 2>(maps, scan, stream);
  if (scan.first_block == 0 && scan.chunk_blocks == 4)
    return launch<cluster, 4>(maps, scan, stream);
  launch<cluster, 1>(maps, scan, stream);
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
                          (semantics == SsdSemantics::independent && args.chunk_size % block == 0 &&
                           args.first_position % block == 0);
  return device_limits().compute_capability == 90 && blocks_fit && args.x.extent[2] == head_dim &&
         args.B.extent[2] == state_dim && args.x.extent[0] <= std::numeric_limits<int>::max() / 2 &&
         is_plain_matrix(args.x) && is_plain_matrix(args.B) && is_plain_matrix(args.C) &&
         is_plain_matrix(args.y) && args.dt.dtype == DType::bf16 && allows_vectors<4>(args.state);
}

void run(SsdSemantics semantics, const SsdArgs& args, CUstream_st* stream) {
  const auto [tokens, heads, width] = args.x.extent;
  const std::int64_t groups = args.B.extent[1];
  const bool forgets = semantics == SsdSemantics::independent;
  // A chunk longer than the call so far means the same as none.
  const std::int64_t chunk_blocks =
      std::min(args.chunk_size, args.first_position + tokens + block) / block;
  Scan scan{};
  scan.args = args;
  scan.tokens = static_cast<int>(tokens);
  scan.blocks = static_cast<int>(ceil_div(tokens, block));
  scan.chunk_blocks = forgets ? static_cast<int>(chunk_blocks) : 0;
  scan.first_block = forgets ? static_cast<int>(args.first_position / block % chunk_blocks) : 0;
  const Workspace workspace(groups * scan.blocks * fragment_bytes, stream);
  auto* const products = workspace.as<uint4>();
  scan.products = products;
  product_kernel<<<static_cast<unsigned>(groups * scan.blocks), 128, 0, stream>>>(scan, products);
  check_cuda(cudaGetLastError(), "ssd_scan product launch");
  const int cluster = heads / groups % 2 == 0 ? 2 : 1;
  const Maps maps{map_of(args.x, block), map_of(args.B, block / cluster),
                  map_of(args.C, block / cluster), map_of(args.y, block)};
  cluster == 2 ? launch_for<2>(maps, scan, stream) : launch_for<1>(maps, scan, stream);
}

}  // namespace
}  // namespace hopper_scan

bool ssd_hopper(SsdSemantics semantics, const SsdArgs& args, CUstream_st* stream) {
  if (!hopper_scan::fits(semantics, args)) return false;
  if (args.x.extent[0] > 0 && args.x.extent[1] > 0) hopper_scan::run(semantics, args, stream);
  return true;
}

}  // namespace chunkstate::cuda
