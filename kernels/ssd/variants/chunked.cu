// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>

#include "kernels/base/check.hpp"
#include "kernels/base/cuda_check.cuh"
#include "kernels/base/elements.cuh"
#include "kernels/base/workspace.cuh"
#include "kernels/ssd/scan_common.cuh"
#include "kernels/ssd/variants/chunk_walker.cuh"
#include "kernels/ssd/variants/chunked.cuh"
#include "kernels/ssd/variants/hopper_scan.cuh"
#include "kernels/ssd/variants_cuda.hpp"

// Rounds of chunk_walker.cuh never cross a chunk border: what the state forgets there is a matter
// of the loop around them.
namespace chunkstate::cuda {
namespace {

using chunk_walker::Place;
using chunk_walker::threads;
using chunk_walker::Tiles;
using chunk_walker::Walker;

struct Scan {
  SsdArgs args;
  SsdSemantics semantics;
  std::int64_t first_chunk;  // of this launch, counted from the sequence's start
  std::int64_t chunks_per_block;
  bool vectors;        // rows may be read four elements at a time
  std::int64_t slots;  // lookback: states in `ring`
  float* ring;         // lookback: [slots, heads, head_dim, state_dim]
};

template <int side>
__global__ void __launch_bounds__(threads) chunked_kernel(Scan scan) {
  extern __shared__ __align__(16) float shared_floats[];
  const SsdArgs& args = scan.args;
  const auto [tokens, heads, head_dim] = args.x.extent;
  const auto slices = static_cast<unsigned>(ceil_div(head_dim, side));
  const std::int64_t head = blockIdx.x / slices % heads;
  const Place place{head, head / (heads / args.B.extent[1]),
                    static_cast<std::int64_t>(blockIdx.x % slices) * side};
  const std::int64_t block = blockIdx.x / slices / heads;
  const bool keeps = args.state.data != nullptr;
  Walker<side> walker(args, scan.vectors, place, shared_floats);

  const auto load_state = [&] {
    walker.for_each_state([&](float& value, bool inside, std::int64_t p, std::int64_t n) {
      value = inside && keeps ? load_element(args.state.at(0, head, p, n), args.state.dtype) : 0.0F;
    });
    __syncthreads();
  };
  const auto store_state = [&] {
    if (!keeps) return;
    walker.for_each_state([&](float& value, bool inside, std::int64_t p, std::int64_t n) {
      if (inside) store_element(args.state.at(0, head, p, n), args.state.dtype, value);
    });
  };
  const auto clear_state = [&] {
    walker.for_each_state([](float& value, bool, std::int64_t, std::int64_t) { value = 0.0F; });
    __syncthreads();
  };
  const auto ring_at = [&](std::int64_t slot, std::int64_t p, std::int64_t n) -> float& {
    return scan.ring[((slot * heads + head) * head_dim + p) * args.B.extent[2] + n];
  };

  if (scan.semantics == SsdSemantics::exact) {
    load_state();
    walker.run(0, tokens, true);
    store_state();
    return;
  }
  const std::int64_t last_chunk = ceil_div(args.first_position + tokens, args.chunk_size);
  const std::int64_t begin_chunk = scan.first_chunk + block * scan.chunks_per_block;
  const std::int64_t end_chunk = min(begin_chunk + scan.chunks_per_block, last_chunk);
  for (std::int64_t chunk = begin_chunk; chunk < end_chunk; ++chunk) {
    const std::int64_t border = chunk * args.chunk_size - args.first_position;
    const std::int64_t begin = max(border, std::int64_t{0});
    const std::int64_t end = min(border + args.chunk_size, tokens);
    const bool last = chunk + 1 == last_chunk;
    if (scan.semantics == SsdSemantics::independent) {
      border < 0 ? load_state() : clear_state();
      walker.run(begin, end, true);
      if (last) store_state();
    } else if (scan.semantics == SsdSemantics::own_end_state) {
      clear_state();
      walker.run(begin, end, false);
      if (last) store_state();
      walker.run(begin, end, true);
    } else {
      // The chunk's own contribution first, then its outputs, which read the sum of the slots.
      const std::int64_t current = chunk % scan.slots;
      walker.for_each_state([&](float& value, bool inside, std::int64_t p, std::int64_t n) {
        value = inside && border < 0 ? ring_at(current, p, n) : 0.0F;
      });
      __syncthreads();
      const float decay = expf(walker.run(begin, end, false));
      walker.for_each_state([&](float& value, bool inside, std::int64_t p, std::int64_t n) {
        if (!inside) return;
        float start = 0.0F;
        for (std::int64_t slot = 0; slot < scan.slots; ++slot) {
          float& entry = ring_at(slot, p, n);
          if (slot != current || border < 0) start += entry;
          entry = slot == current ? value : entry * decay;
        }
        value = start;
      });
      __syncthreads();
      walker.run(begin, end, true);
    }
  }
}

template <int side>
void launch(const Scan& scan, std::int64_t blocks_per_head, CUstream_st* stream) {
  const auto bytes = static_cast<int>(Tiles<side>::bytes(scan.args.B.extent[2]));
  check_cuda(cudaFuncSetAttribute(chunked_kernel<side>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  bytes),
             "ssd_scan shared memory");
  const std::int64_t blocks =
      blocks_per_head * scan.args.x.extent[1] * ceil_div(scan.args.x.extent[2], side);
  chunked_kernel<side><<<static_cast<unsigned>(blocks), threads, bytes, stream>>>(scan);
  check_cuda(cudaGetLastError(), "ssd_scan chunked launch");
}

}  // namespace

void ssd_chunked(SsdSemantics semantics, const SsdArgs& call, CUstream_st* stream) {
  SsdArgs args = call;
  // A chunk longer than the sequence so far means the same as one that ends with it, and can be
  // added to positions without overflow.
  args.chunk_size = std::min(call.chunk_size, call.first_position + call.x.extent[0]);
  const auto [tokens, heads, head_dim] = args.x.extent;
  const std::int64_t state_dim = args.B.extent[2];
  const std::int64_t elements = heads * head_dim * state_dim;
  if (tokens == 0 || elements == 0) return;

  const std::int64_t to_border = args.chunk_size - args.first_position % args.chunk_size;
  const bool starts_inside = to_border != args.chunk_size;
  if (semantics == SsdSemantics::independent && starts_inside && tokens > to_border) {
    // Two launches: the block that continues a chunk reads the state that the last one overwrites.
    ssd_chunked(semantics, slice_tokens(args, 0, to_border), stream);
    return ssd_chunked(semantics, slice_tokens(args, to_border, tokens), stream);
  }

  const std::int64_t first_chunk = args.first_position / args.chunk_size;
  const std::int64_t chunks = ceil_div(args.first_position + tokens, args.chunk_size) - first_chunk;
  const bool side_by_side =
      semantics == SsdSemantics::independent || semantics == SsdSemantics::own_end_state;
  Scan scan{args, semantics, first_chunk, side_by_side ? 1 : chunks, false, 0, nullptr};
  scan.vectors =
      allows_vectors<4>(args.x) && allows_vectors<4>(args.B) && allows_vectors<4>(args.C);
  if (semantics == SsdSemantics::lookback) {
    scan.slots = args.state ? args.state.extent[0] : std::min(args.lookback, chunks - 1) + 1;
  }
  const Workspace ring(scan.slots * elements * 4, stream);
  scan.ring = ring.as<float>();
  if (semantics == SsdSemantics::lookback) {
    load_state(args.state, scan.slots * elements, scan.ring, stream);
  }

  const std::int64_t blocks_per_head = side_by_side ? chunks : 1;
  const int available = device_limits().shared_bytes_per_block;
  if (Tiles<32>::bytes(state_dim) <= available) {
    launch<32>(scan, blocks_per_head, stream);
  } else if (Tiles<16>::bytes(state_dim) <= available) {
    launch<16>(scan, blocks_per_head, stream);
  } else {
    throw ShapeError("ssd_scan: state_dim is " + std::to_string(state_dim) +
                     ", more than this device's shared memory takes");
  }
  if (semantics == SsdSemantics::lookback) {
    store_state(args.state, scan.slots * elements, scan.ring, stream);
  }
}

void ssd_default_optimized(const SsdArgs& args, CUstream_st* stream) {
  if (!ssd_hopper(SsdSemantics::exact, args, stream)) {
    ssd_chunked(SsdSemantics::exact, args, stream);
  }
}

void ssd_independent(const SsdArgs& args, CUstream_st* stream) {
  if (!ssd_hopper(SsdSemantics::independent, args, stream)) {
    ssd_chunked(SsdSemantics::independent, args, stream);
  }
}

void ssd_lookback(const SsdArgs& args, CUstream_st* stream) {
  if (!ssd_hopper(SsdSemantics::lookback, args, stream)) {
    ssd_chunked(SsdSemantics::lookback, args, stream);
  }
}

void ssd_own_end_state(const SsdArgs& args, CUstream_st* stream) {
  if (!ssd_hopper(SsdSemantics::own_end_state, args, stream)) {
    ssd_chunked(SsdSemantics::own_end_state, args, stream);
  }
}

}  // namespace chunkstate::cuda
