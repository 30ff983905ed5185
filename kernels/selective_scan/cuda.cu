// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/base/launch.cuh"
#include "kernels/base/memory.hpp"
#include "kernels/selective_scan/register_scan.cuh"

namespace chunkstate::cuda {
namespace {

using namespace register_scan;

// Many channels: the fewest shuffles that still give a scheduler two warps.
using Wide = Split<8, 2, 8>;
// Few channels: twice as many blocks, half the instructions per token.
using Narrow = Split<4, 4, 4>;
using Narrow64 = Split<8, 8, 1>;
using Narrow128 = Split<16, 8, 1>;

/// One block per sequence, chunk and S::width channels, channels fastest.
template <class S, bool ends>
__global__ void __launch_bounds__(threads) scan_kernel(Pass pass) {
  overlap_kernels();
  __shared__ Shared<S> shared;
  const SelectiveScanArgs& args = pass.args;
  const std::int64_t channels = args.x.extent[2], state_dim = args.B.extent[2];
  const auto slices = static_cast<unsigned>(ceil_div(channels, S::width));
  const auto chunks = static_cast<unsigned>(pass.chunks);
  const std::int64_t chunk = blockIdx.x / slices % chunks;
  const std::int64_t sequence = blockIdx.x / slices / chunks;
  const std::int64_t begin = chunk * pass.chunk_tokens;
  const auto tokens = static_cast<int>(min(pass.chunk_tokens, args.x.extent[1] - begin));

  const std::int64_t slice = blockIdx.x % slices;
  States<S> states(args, slice * S::width);
  const std::int64_t entry = (sequence * pass.chunks + chunk) * channels + states.channel;
  if constexpr (!ends) {
    states.for_each(args, [&](std::int64_t n, int s) {
      if (pass.states != nullptr) {
        states.h[s] = pass.states[entry * state_dim + n];
      } else if (args.state.data != nullptr) {
        states.h[s] = load_element(args.state.at(sequence, states.channel, n), args.state.dtype);
      }
    });
  }

  // A thread beyond the last channel computes that one's values and keeps nothing.
  const std::int64_t channel = min(states.channel, channels - 1);
  const float bias = args.dt_bias.data != nullptr ? args.dt_bias(channel) : 0.0F;
  const float skip = args.D.data != nullptr ? args.D(channel) : 0.0F;
  const Column x_column(args.x, sequence, begin, channel);
  const Column dt_column(args.dt, sequence, begin, channel);
  const Column z_column(args.z, sequence, begin, channel);
  const bool whole_block = slice * S::width + S::width <= channels;
  std::byte* y_tile = args.y.at(sequence, begin + states.lane, channel);
  const std::int64_t y_step = std::int64_t{S::lanes} * token_bytes(args.y);
  const Rows<S> B_rows(args.B, sequence, begin), C_rows(args.C, sequence, begin);

  // x, dt and z one tile ahead; B and C two, as they pass through shared memory.
  Stored<S::items> next_x{}, next_dt{}, next_z{};
  Stored<S::pieces> next_B{}, next_C{};
  const int last = tokens - 1;
  const auto load_columns = [&](int first) {
    x_column.load<S>(next_x, first + states.lane, last);
    dt_column.load<S>(next_dt, first + states.lane, last);
    if constexpr (!ends) z_column.load<S>(next_z, first + states.lane, last);
  };
  const auto load_rows = [&](int first) {
    B_rows.load(next_B, first, last);
    if constexpr (!ends) C_rows.load(next_C, first, last);
  };
  const auto keep_rows = [&](int buffer) {
    B_rows.keep(next_B, shared.B[buffer]);
    if constexpr (!ends) C_rows.keep(next_C, shared.C[buffer]);
  };
  load_rows(0);
  load_columns(0);
  keep_rows(0);
  load_rows(S::tile);

  int buffer = 0;
  for (int first = 0; first < tokens; first += S::tile, buffer ^= 1) {
    // This tile's B and C are there, and all are done with those of the one before.
    __syncthreads();
    float x[S::items], delta[S::items], written[S::items], y[S::items];
    next_x.widen_to(x, args.x.dtype);
    next_dt.widen_to(delta, args.dt.dtype);
    const Stored<S::items> stored_z = next_z;
    load_columns(first + S::tile);
    keep_rows(buffer ^ 1);
    load_rows(first + 2 * S::tile);
#pragma unroll
    for (int i = 0; i < S::items; ++i) delta[i] += bias;
    if (args.softplus) {
#pragma unroll
      for (int i = 0; i < S::items; ++i) delta[i] = softplus(delta[i]);
    }
#pragma unroll
    for (int i = 0; i < S::items; ++i) {
      // Tokens beyond the last one write nothing and decay nothing.
      const bool inside = first + states.lane + i * S::lanes < tokens;
      delta[i] = inside ? delta[i] : 0.0F;
      written[i] = inside ? delta[i] * x[i] : 0.0F;
    }
    __syncwarp();
    states.template advance<ends>(shared, buffer, delta, written, y);
    if constexpr (!ends) {
      if (args.D.data != nullptr) {
#pragma unroll
        for (int i = 0; i < S::items; ++i) y[i] += skip * x[i];
      }
      if (args.z.data != nullptr) {
        float z[S::items];
        stored_z.widen_to(z, args.z.dtype);
#pragma unroll
        for (int i = 0; i < S::items; ++i) y[i] *= silu_fast(z[i]);
      }
      const bool whole_tile = whole_block && first + S::tile <= tokens;
      with_type(args.y.dtype, [&](auto type) {
        std::byte* to = y_tile;
        if (whole_tile) {
#pragma unroll
          for (int i = 0; i < S::items; ++i, to += y_step) store_element(to, type.value, y[i]);
        } else if (states.exists) {
#pragma unroll
          for (int i = 0; i < S::items; ++i, to += y_step) {
            const bool inside = first + states.lane + i * S::lanes < tokens;
            if (inside) store_element(to, type.value, y[i]);
          }
        }
      });
      y_tile += S::items * y_step;
    }
  }

  states.for_each(args, [&](std::int64_t n, int s) {
    if constexpr (ends) {
      pass.states[entry * state_dim + n] = states.h[s];
      if (n == 0) pass.delta_sums[entry] = states.delta_sum;
    } else if (pass.states == nullptr && args.state.data != nullptr) {
      store_element(args.state.at(sequence, states.channel, n), args.state.dtype, states.h[s]);
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

// Sequence and token of a row; in 32 bits, as the grid has no more blocks.
struct Place {
  std::int64_t sequence, token;

  __device__ Place(const SelectiveScanArgs& args, std::int64_t row) {
    const auto tokens = static_cast<unsigned>(args.x.extent[1]);
    sequence = static_cast<unsigned>(row) / tokens;
    token = static_cast<unsigned>(row) % tokens;
  }
};

/// Step sizes in fp32, for variant fused. One block per 128 N channels of a token.
template <int N>
__global__ void __launch_bounds__(row_threads) step_kernel(SelectiveScanArgs args, float* delta) {
  overlap_kernels();
  const auto [row, d] = row_position<N>(args.x.extent[2]);
  if (d >= args.x.extent[2]) return;
  const Place place(args, row);
  float v[N];
  load_elements(args.dt.at(place.sequence, place.token, d), args.dt.dtype, v);
#pragma unroll
  for (int k = 0; k < N; ++k) {
    if (args.dt_bias.data != nullptr) v[k] += args.dt_bias(d + k);
    if (args.softplus) v[k] = softplus(v[k]);
  }
  store_elements(reinterpret_cast<std::byte*>(delta + row * args.x.extent[2] + d), DType::fp32, v);
}

/// y = (scanned + D x) silu(z), for variant fused.
template <int N>
__global__ void __launch_bounds__(row_threads)
    gate_kernel(SelectiveScanArgs args, const float* scanned) {
  overlap_kernels();
  const auto [row, d] = row_position<N>(args.x.extent[2]);
  if (d >= args.x.extent[2]) return;
  const Place place(args, row);
  float y[N], x[N] = {}, z[N];
  const bool gated = args.z.data != nullptr;
  load_elements(reinterpret_cast<const std::byte*>(scanned + row * args.x.extent[2] + d),
                DType::fp32, y);
  if (args.D.data != nullptr) {
    load_elements(args.x.at(place.sequence, place.token, d), args.x.dtype, x);
  }
  if (gated) load_elements(args.z.at(place.sequence, place.token, d), args.z.dtype, z);
#pragma unroll
  for (int k = 0; k < N; ++k) {
    if (args.D.data != nullptr) y[k] += args.D(d + k) * x[k];
    if (gated) y[k] *= silu_fast(z[k]);
  }
  store_elements(args.y.at(place.sequence, place.token, d), args.y.dtype, y);
}

template <class S>
std::int64_t blocks_of(const Pass& pass) {
  return pass.args.x.extent[0] * pass.chunks * ceil_div(pass.args.x.extent[2], S::width);
}

template <class S, bool ends>
void launch(const Pass& pass, CUstream_st* stream) {
  launch_overlapping("selective_scan launch", scan_kernel<S, ends>,
                     static_cast<unsigned>(blocks_of<S>(pass)), threads, stream, pass);
}

template <bool ends>
void launch_scan(const Pass& pass, CUstream_st* stream) {
  const std::int64_t state_dim = pass.args.B.extent[2];
  if (state_dim > Narrow64::state_dim) return launch<Narrow128, ends>(pass, stream);
  if (state_dim > Wide::state_dim) return launch<Narrow64, ends>(pass, stream);
  // Two blocks of four warps per multiprocessor: two warps on each of its schedulers.
  const bool fills = 4 * blocks_of<Wide>(pass) >= 3 * 2 * device_limits().multiprocessors;
  if (fills) return launch<Wide, ends>(pass, stream);
  launch<Narrow, ends>(pass, stream);
}

/// One chunk.
Pass whole(const SelectiveScanArgs& args) { return {args, args.x.extent[1], 1, nullptr, nullptr}; }

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
  SelectiveScanArgs scan = args;
  scan.dt = View<const float, 3>(delta, args.x.extent);
  scan.dt_bias = {};
  scan.softplus = false;
  scan.D = {};
  scan.z = {};
  scan.y = View<float, 3>(scanned, args.x.extent);
  const auto launch_all = [&]<int N>() {
    const unsigned blocks = row_blocks(batch * tokens, channels, N);
    launch_overlapping("selective_scan steps launch", step_kernel<N>, blocks, row_threads, stream,
                       args, delta);
    launch_scan<false>(whole(scan), stream);
    launch_overlapping("selective_scan gate launch", gate_kernel<N>, blocks, row_threads, stream,
                       args, static_cast<const float*>(scanned));
  };
  const bool vectors = allows_vectors<4>(args.x) && allows_vectors<4>(args.dt) &&
                       allows_vectors<4>(args.z) && allows_vectors<4>(args.y);
  if (vectors) return launch_all.template operator()<4>();
  launch_all.template operator()<1>();
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
