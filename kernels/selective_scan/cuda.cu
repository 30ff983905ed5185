// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/base/launch.cuh"
#include "kernels/base/memory.hpp"
#include "kernels/selective_scan/register_scan.cuh"

namespace chunkstate::cuda {
namespace {

using namespace register_scan;

// Many channels: every B and C that comes from shared memory serves two of them.
using Wide = Split<2, 8, 2>;
// Few channels: four times as many blocks.
using Narrow = Split<1, 4, 4>;
using Narrow64 = Split<1, 8, 8>;
using Narrow128 = Split<1, 8, 16>;

/// One block per sequence, chunk and S::width channels, channels fastest.
template <class S, bool ends>
__global__ void __launch_bounds__(threads) scan_kernel(Pass pass) {
  overlap_kernels();
  extern __shared__ __align__(16) std::byte shared_bytes[];
  Shared<S>& shared = *reinterpret_cast<Shared<S>*>(shared_bytes);
  const SelectiveScanArgs& args = pass.args;
  const auto [batch, tokens, channels] = args.x.extent;
  const auto state_dim = static_cast<int>(args.B.extent[2]);
  const auto slices = static_cast<unsigned>(ceil_div(channels, S::width));
  const std::int64_t first_channel = static_cast<std::int64_t>(blockIdx.x % slices) * S::width;
  const std::int64_t chunk = blockIdx.x / slices % pass.chunks;
  const std::int64_t sequence = blockIdx.x / slices / pass.chunks;
  const std::int64_t begin = chunk * pass.chunk_tokens;
  const std::int64_t end = min(begin + pass.chunk_tokens, tokens);

  States<S> states(args, first_channel);
  const Quad<S> quad(args, first_channel);
  const std::int64_t entry = (sequence * pass.chunks + chunk) * channels;
  if constexpr (!ends) {
    states.for_each(args, [&](std::int64_t d, std::int64_t n, int k, int s) {
      if (pass.states != nullptr) {
        states.h[k][s] = pass.states[(entry + d) * state_dim + n];
      } else if (args.state.data != nullptr) {
        states.h[k][s] = load_element(args.state.at(sequence, d, n), args.state.dtype);
      }
    });
  }

  const auto rows_from = [&](std::int64_t first) {
    return static_cast<int>(min(end - first, std::int64_t{tile}));
  };
  const auto stage_tile = [&](int buffer, std::int64_t first) {
    const int rows = rows_from(first);
    const bool v = pass.vectors;
    stage<S::width>(shared.x[buffer], args.x, sequence, first, rows, first_channel, v);
    stage<S::width>(shared.dt[buffer], args.dt, sequence, first, rows, first_channel, v);
    stage<S::state_dim>(shared.B_stored[buffer], args.B, sequence, first, rows, 0, v);
    if constexpr (!ends) {
      stage<S::width>(shared.z[buffer], args.z, sequence, first, rows, first_channel, v);
      stage<S::state_dim>(shared.C_stored[buffer], args.C, sequence, first, rows, 0, v);
    }
    commit_copies();
  };

  stage_tile(0, begin);
  int buffer = 0;
  for (std::int64_t first = begin; first < end; first += tile, buffer ^= 1) {
    const int rows = rows_from(first);
    // This tile has arrived, and every thread is done with the one before, whose place the next
    // one takes.
    wait_copies<0>();
    __syncthreads();
    if (first + tile < end) stage_tile(buffer ^ 1, first + tile);
    make_steps(shared, args, quad, buffer, rows);
    widen(shared.B, shared.B_stored[buffer], args.B.dtype, rows, state_dim);
    if constexpr (!ends) widen(shared.C, shared.C_stored[buffer], args.C.dtype, rows, state_dim);
    __syncthreads();
    states.template advance<ends>(shared);
    __syncthreads();
    if constexpr (!ends) {
      store_outputs(shared, pass, quad, buffer, rows, sequence, first, first_channel);
    }
  }

  states.for_each(args, [&](std::int64_t d, std::int64_t n, int k, int s) {
    if constexpr (ends) {
      pass.states[(entry + d) * state_dim + n] = states.h[k][s];
      if (n == 0) pass.delta_sums[entry + d] = states.delta_sum[k];
    } else if (pass.states == nullptr && args.state.data != nullptr) {
      store_element(args.state.at(sequence, d, n), args.state.dtype, states.h[k][s]);
    }
  });
}

/// One thread per state element: every chunk's end state becomes the state that it starts from, and
/// args.state the one after the last chunk. A whole chunk's decay is exp(A sum of delta).
__global__ void __launch_bounds__(threads) passing_kernel(Pass pass) {
  overlap_kernels();
  const SelectiveScanArgs& args = pass.args;
  const std::int64_t channels = args.x.extent[2], state_dim = args.B.extent[2];
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (index >= args.x.extent[0] * channels * state_dim) return;
  const std::int64_t n = index % state_dim;
  const std::int64_t d = index / state_dim % channels;
  const std::int64_t sequence = index / state_dim / channels;
  const float rate = log2_e * args.A(d, n);
  float state = 0.0F;
  if (args.state.data != nullptr) {
    state = load_element(args.state.at(sequence, d, n), args.state.dtype);
  }
  for (std::int64_t chunk = 0; chunk < pass.chunks; ++chunk) {
    const std::int64_t entry = (sequence * pass.chunks + chunk) * channels + d;
    const float end = pass.states[entry * state_dim + n];
    pass.states[entry * state_dim + n] = state;
    state = exp2_fast(pass.delta_sums[entry] * rate) * state + end;
  }
  if (args.state.data != nullptr) {
    store_element(args.state.at(sequence, d, n), args.state.dtype, state);
  }
}

/// Step sizes in fp32, for variant fused. One block per 128 channels of a token.
__global__ void __launch_bounds__(row_threads) step_kernel(SelectiveScanArgs args, float* delta) {
  overlap_kernels();
  const auto [row, d] = row_position<1>(args.x.extent[2]);
  if (d >= args.x.extent[2]) return;
  const std::int64_t tokens = args.x.extent[1];
  float v = load_element(args.dt.at(row / tokens, row % tokens, d), args.dt.dtype);
  if (args.dt_bias.data != nullptr) v += args.dt_bias(d);
  delta[row * args.x.extent[2] + d] = args.softplus ? softplus(v) : v;
}

/// y = (scanned + D x) silu(z), for variant fused.
__global__ void __launch_bounds__(row_threads)
    gate_kernel(SelectiveScanArgs args, const float* scanned) {
  overlap_kernels();
  const auto [row, d] = row_position<1>(args.x.extent[2]);
  if (d >= args.x.extent[2]) return;
  const std::int64_t sequence = row / args.x.extent[1], token = row % args.x.extent[1];
  float y = scanned[row * args.x.extent[2] + d];
  if (args.D.data != nullptr) {
    y += args.D(d) * load_element(args.x.at(sequence, token, d), args.x.dtype);
  }
  if (args.z.data != nullptr) {
    y *= silu_fast(load_element(args.z.at(sequence, token, d), args.z.dtype));
  }
  store_element(args.y.at(sequence, token, d), args.y.dtype, y);
}

template <class S>
std::int64_t blocks_of(const Pass& pass) {
  return pass.args.x.extent[0] * pass.chunks * ceil_div(pass.args.x.extent[2], S::width);
}

template <class S, bool ends>
void launch(const Pass& pass, CUstream_st* stream) {
  constexpr auto bytes = static_cast<int>(sizeof(Shared<S>));
  const auto kernel = scan_kernel<S, ends>;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
             "selective_scan shared memory");
  launch_overlapping_shared("selective_scan launch", kernel,
                            static_cast<unsigned>(blocks_of<S>(pass)), threads, bytes, stream,
                            pass);
}

template <bool ends>
void launch_scan(Pass pass, CUstream_st* stream) {
  const SelectiveScanArgs& args = pass.args;
  pass.vectors = allows_vectors<8>(args.x) && allows_vectors<8>(args.dt) &&
                 allows_vectors<8>(args.B) && allows_vectors<8>(args.C) &&
                 allows_vectors<8>(args.z) && allows_vectors<8>(args.y);
  const std::int64_t state_dim = args.B.extent[2];
  if (state_dim > Narrow64::state_dim) return launch<Narrow128, ends>(pass, stream);
  if (state_dim > Wide::state_dim) return launch<Narrow64, ends>(pass, stream);
  // A block keeps one warp on each scheduler of a multiprocessor: enough, as its chains of states
  // are independent.
  const bool fills = 4 * blocks_of<Wide>(pass) >= 3 * device_limits().multiprocessors;
  if (fills) return launch<Wide, ends>(pass, stream);
  launch<Narrow, ends>(pass, stream);
}

/// One chunk.
Pass whole(const SelectiveScanArgs& args) {
  return {args, args.x.extent[1], 1, nullptr, nullptr, false};
}

// Floats of one of `fused`'s intermediates, which keep the second one aligned.
std::int64_t pitch_of(const SelectiveScanArgs& args) {
  const auto [batch, tokens, channels] = args.x.extent;
  return ceil_div(batch * tokens * channels, 4) * 4;
}

Pass in_chunks(const SelectiveScanArgs& args) {
  Pass pass = whole(args);
  pass.chunk_tokens = std::min(args.chunk_size, args.x.extent[1]);
  pass.chunks = ceil_div(args.x.extent[1], pass.chunk_tokens);
  return pass;
}

// Of `chunked`: a state and a sum of step sizes per chunk.
std::int64_t chunk_bytes(const Pass& pass) {
  const auto [batch, tokens, channels] = pass.args.x.extent;
  return batch * pass.chunks * channels * (pass.args.B.extent[2] + 1) * 4;
}

}  // namespace

void selective_scan_fused_block(const SelectiveScanArgs& args, CUstream_st* stream) {
  launch_scan<false>(whole(args), stream);
}

std::int64_t selective_scan_fused_scratch(const SelectiveScanArgs& args) {
  return scratch_size(2 * pitch_of(args) * 4);
}

void selective_scan_fused(const SelectiveScanArgs& args, CUstream_st* stream) {
  const auto [batch, tokens, channels] = args.x.extent;
  const std::int64_t pitch = pitch_of(args);
  const Workspace workspace(2 * pitch * 4, stream);
  float* const delta = workspace.as<float>();
  float* const scanned = delta + pitch;
  const unsigned blocks = row_blocks(batch * tokens, channels, 1);
  launch_overlapping("selective_scan steps launch", step_kernel, blocks, row_threads, stream, args,
                     delta);
  SelectiveScanArgs scan = args;
  scan.dt = View<const float, 3>(delta, args.x.extent);
  scan.dt_bias = {};
  scan.softplus = false;
  scan.D = {};
  scan.z = {};
  scan.y = View<float, 3>(scanned, args.x.extent);
  launch_scan<false>(whole(scan), stream);
  launch_overlapping("selective_scan gate launch", gate_kernel, blocks, row_threads, stream, args,
                     static_cast<const float*>(scanned));
}

std::int64_t selective_scan_chunked_scratch(const SelectiveScanArgs& args) {
  const Pass pass = in_chunks(args);
  return pass.chunks == 1 ? 0 : scratch_size(chunk_bytes(pass));
}

void selective_scan_chunked(const SelectiveScanArgs& args, CUstream_st* stream) {
  const auto [batch, tokens, channels] = args.x.extent;
  Pass pass = in_chunks(args);
  if (pass.chunks == 1) return launch_scan<false>(pass, stream);
  const std::int64_t entries = batch * pass.chunks * channels;
  const std::int64_t state_dim = args.B.extent[2];
  const Workspace workspace(chunk_bytes(pass), stream);
  pass.states = workspace.as<float>();
  pass.delta_sums = pass.states + entries * state_dim;
  launch_scan<true>(pass, stream);
  launch_overlapping("selective_scan passing launch", passing_kernel,
                     static_cast<unsigned>(ceil_div(batch * channels * state_dim, threads)),
                     threads, stream, pass);
  launch_scan<false>(pass, stream);
}

}  // namespace chunkstate::cuda
