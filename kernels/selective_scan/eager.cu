// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "kernels/base/elements.cuh"
#include "kernels/base/memory.hpp"
#include "kernels/base/workspace.cuh"
#include "kernels/selective_scan/selective_scan.hpp"

// The baseline, as an eager framework runs the textbook form: a launch per operation, decays and
// states of all tokens in memory, two launches per token. Launches are plain, one after another.
namespace chunkstate::cuda {
namespace {

constexpr std::int64_t max_grid = 2147483647;

/// The call and its intermediates, packed.
struct Eager {
  SelectiveScanArgs args;
  float *delta, *other, *y;  // [batch, tokens, channels]
  float *decay, *states;     // [batch, tokens, channels, state_dim]
  float *start, *decayed;    // [batch, channels, state_dim]

  __host__ __device__ std::int64_t tokens() const { return args.x.extent[1]; }
  __host__ __device__ std::int64_t channels() const { return args.x.extent[2]; }
  __host__ __device__ std::int64_t state_dim() const { return args.B.extent[2]; }
  __host__ __device__ std::int64_t matrix() const { return channels() * state_dim(); }
};

/// A channel of a token; `at` counts them.
struct Place {
  std::int64_t sequence, token, d, at;
  bool inside;

  __device__ explicit Place(const Eager& e) {
    const auto [row, channel] = row_position<1>(e.channels());
    sequence = row / e.tokens(), token = row % e.tokens(), d = channel;
    at = row * e.channels() + d;
    inside = d < e.channels();
  }
};

/// N elements of one channel's state, in a row of `matrix` ones.
template <int N>
struct StatePlace {
  std::int64_t row, in_row, at;  // at: row * matrix + in_row
  std::int64_t d, n;
  bool inside;

  __device__ explicit StatePlace(const Eager& e) {
    const auto [r, first] = row_position<N>(e.matrix());
    row = r, in_row = first, at = row * e.matrix() + in_row;
    const auto state_dim = static_cast<unsigned>(e.state_dim());
    d = static_cast<unsigned>(in_row) / state_dim, n = static_cast<unsigned>(in_row) % state_dim;
    inside = in_row < e.matrix();
  }
};

template <int N>
__device__ __forceinline__ void load(const float* from, float (&value)[N]) {
  load_elements(reinterpret_cast<const std::byte*>(from), DType::fp32, value);
}
template <int N>
__device__ __forceinline__ void store(float* to, const float (&value)[N]) {
  store_elements(reinterpret_cast<std::byte*>(to), DType::fp32, value);
}

__global__ void __launch_bounds__(row_threads) step_size_sum_kernel(Eager e) {
  const Place p(e);
  if (!p.inside) return;
  const float bias = e.args.dt_bias.data != nullptr ? e.args.dt_bias(p.d) : 0.0F;
  e.delta[p.at] = load_element(e.args.dt.at(p.sequence, p.token, p.d), e.args.dt.dtype) + bias;
}

__global__ void __launch_bounds__(row_threads) softplus_kernel(Eager e) {
  const Place p(e);
  if (!p.inside) return;
  const float v = e.delta[p.at];
  e.delta[p.at] = v > 20.0F ? v : log1pf(expf(v));
}

template <int N>
__global__ void __launch_bounds__(row_threads) decay_product_kernel(Eager e) {
  const StatePlace<N> p(e);
  if (!p.inside) return;
  const float delta = e.delta[p.row * e.channels() + p.d];
  float decay[N];
#pragma unroll
  for (int k = 0; k < N; ++k) decay[k] = delta * e.args.A(p.d, p.n + k);
  store(e.decay + p.at, decay);
}

template <int N>
__global__ void __launch_bounds__(row_threads) decay_exp_kernel(Eager e) {
  const StatePlace<N> p(e);
  if (!p.inside) return;
  float decay[N];
  load(e.decay + p.at, decay);
#pragma unroll
  for (int k = 0; k < N; ++k) decay[k] = expf(decay[k]);
  store(e.decay + p.at, decay);
}

__global__ void __launch_bounds__(row_threads) written_product_kernel(Eager e) {
  const Place p(e);
  if (!p.inside) return;
  e.other[p.at] =
      e.delta[p.at] * load_element(e.args.x.at(p.sequence, p.token, p.d), e.args.x.dtype);
}

template <int N>
__global__ void __launch_bounds__(row_threads) written_outer_product_kernel(Eager e) {
  const StatePlace<N> p(e);
  if (!p.inside) return;
  const std::int64_t sequence = p.row / e.tokens(), token = p.row % e.tokens();
  const float product = e.other[p.row * e.channels() + p.d];
  float written[N];
#pragma unroll
  for (int k = 0; k < N; ++k) {
    written[k] = product * load_element(e.args.B.at(sequence, token, p.n + k), e.args.B.dtype);
  }
  store(e.states + p.at, written);
}

// Rows of the following are sequences.
__global__ void __launch_bounds__(row_threads) start_state_kernel(Eager e) {
  const StatePlace<1> p(e);
  if (!p.inside) return;
  e.start[p.at] = e.args.state.data == nullptr
                      ? 0.0F
                      : load_element(e.args.state.at(p.row, p.d, p.n), e.args.state.dtype);
}

template <int N>
__global__ void __launch_bounds__(row_threads) decay_state_kernel(Eager e, std::int64_t token) {
  const StatePlace<N> p(e);
  if (!p.inside) return;
  const std::int64_t at = (p.row * e.tokens() + token) * e.matrix() + p.in_row;
  float decay[N], before[N];
  load(e.decay + at, decay);
  load(token == 0 ? e.start + p.at : e.states + at - e.matrix(), before);
#pragma unroll
  for (int k = 0; k < N; ++k) before[k] *= decay[k];
  store(e.decayed + p.at, before);
}

template <int N>
__global__ void __launch_bounds__(row_threads) add_written_kernel(Eager e, std::int64_t token) {
  const StatePlace<N> p(e);
  if (!p.inside) return;
  const std::int64_t at = (p.row * e.tokens() + token) * e.matrix() + p.in_row;
  float decayed[N], state[N];
  load(e.decayed + p.at, decayed);
  load(e.states + at, state);
#pragma unroll
  for (int k = 0; k < N; ++k) state[k] += decayed[k];
  store(e.states + at, state);
}

__global__ void __launch_bounds__(row_threads) end_state_kernel(Eager e) {
  const StatePlace<1> p(e);
  if (!p.inside) return;
  const std::int64_t last = (p.row + 1) * e.tokens() - 1;
  store_element(e.args.state.at(p.row, p.d, p.n), e.args.state.dtype,
                e.states[last * e.matrix() + p.in_row]);
}

/// The last operation of a call stores to the caller's y, the ones before it in fp32.
__device__ __forceinline__ void leave(const Eager& e, const Place& p, bool last, float y) {
  if (last) {
    store_element(e.args.y.at(p.sequence, p.token, p.d), e.args.y.dtype, y);
  } else {
    e.y[p.at] = y;
  }
}

template <int N>
__global__ void __launch_bounds__(row_threads) read_kernel(Eager e, bool last) {
  const Place p(e);
  if (!p.inside) return;
  float y = 0.0F;
  for (std::int64_t n = 0; n < e.state_dim(); n += N) {
    float state[N];
    load(e.states + p.at * e.state_dim() + n, state);
#pragma unroll
    for (int k = 0; k < N; ++k) {
      y += state[k] * load_element(e.args.C.at(p.sequence, p.token, n + k), e.args.C.dtype);
    }
  }
  leave(e, p, last, y);
}

__global__ void __launch_bounds__(row_threads) skip_product_kernel(Eager e) {
  const Place p(e);
  if (!p.inside) return;
  e.other[p.at] =
      e.args.D(p.d) * load_element(e.args.x.at(p.sequence, p.token, p.d), e.args.x.dtype);
}

__global__ void __launch_bounds__(row_threads) skip_sum_kernel(Eager e, bool last) {
  const Place p(e);
  if (p.inside) leave(e, p, last, e.y[p.at] + e.other[p.at]);
}

__global__ void __launch_bounds__(row_threads) silu_kernel(Eager e) {
  const Place p(e);
  if (!p.inside) return;
  e.other[p.at] = silu(load_element(e.args.z.at(p.sequence, p.token, p.d), e.args.z.dtype));
}

__global__ void __launch_bounds__(row_threads) gate_product_kernel(Eager e) {
  const Place p(e);
  if (p.inside) leave(e, p, true, e.y[p.at] * e.other[p.at]);
}

unsigned grid(std::int64_t rows, std::int64_t columns, int n) {
  const std::int64_t blocks = rows * ceil_div(columns, row_threads * n);
  if (blocks > max_grid) {
    throw CudaError("selective_scan eager: " + std::to_string(blocks) +
                    " blocks, a launch takes at most " + std::to_string(max_grid));
  }
  return static_cast<unsigned>(blocks);
}

/// One operation.
template <class... Parameters, class... Arguments>
void launch(const char* what, void (*kernel)(Parameters...), unsigned blocks, CUstream_st* stream,
            const Arguments&... arguments) {
  kernel<<<blocks, row_threads, 0, stream>>>(arguments...);
  check_cuda(cudaGetLastError(), what);
}

template <int N>
void run(const Eager& e, CUstream_st* stream) {
  const SelectiveScanArgs& args = e.args;
  const std::int64_t batch = args.x.extent[0], tokens = e.tokens();
  const unsigned channels = grid(batch * tokens, e.channels(), 1);
  const unsigned states = grid(batch * tokens, e.matrix(), N);
  const unsigned step = grid(batch, e.matrix(), N);
  const unsigned state = grid(batch, e.matrix(), 1);

  launch("selective_scan eager: step size launch", step_size_sum_kernel, channels, stream, e);
  if (args.softplus) {
    launch("selective_scan eager: softplus launch", softplus_kernel, channels, stream, e);
  }
  launch("selective_scan eager: decay launch", decay_product_kernel<N>, states, stream, e);
  launch("selective_scan eager: exp launch", decay_exp_kernel<N>, states, stream, e);
  launch("selective_scan eager: written launch", written_product_kernel, channels, stream, e);
  launch("selective_scan eager: outer launch", written_outer_product_kernel<N>, states, stream, e);
  launch("selective_scan eager: start launch", start_state_kernel, state, stream, e);
  for (std::int64_t t = 0; t < tokens; ++t) {
    launch("selective_scan eager: decay state launch", decay_state_kernel<N>, step, stream, e, t);
    launch("selective_scan eager: add launch", add_written_kernel<N>, step, stream, e, t);
  }
  if (args.state) launch("selective_scan eager: end launch", end_state_kernel, state, stream, e);
  launch("selective_scan eager: read launch", read_kernel<N>, channels, stream, e,
         !args.D && !args.z);
  if (args.D) {
    launch("selective_scan eager: skip launch", skip_product_kernel, channels, stream, e);
    launch("selective_scan eager: skip sum launch", skip_sum_kernel, channels, stream, e, !args.z);
  }
  if (args.z) {
    launch("selective_scan eager: silu launch", silu_kernel, channels, stream, e);
    launch("selective_scan eager: gate launch", gate_product_kernel, channels, stream, e);
  }
}

// Floats of the intermediates: of [batch, tokens, channels] and of [batch, channels, state_dim],
// which keep what follows aligned to 16 bytes.
struct Sizes {
  std::int64_t pitch, matrices;
  explicit Sizes(const Eager& e)
      : pitch(ceil_div(e.args.x.extent[0] * e.tokens() * e.channels(), 4) * 4),
        matrices(ceil_div(e.args.x.extent[0] * e.matrix(), 4) * 4) {}
  std::int64_t bytes(std::int64_t state_dim) const {
    return (3 * pitch + 2 * pitch * state_dim + 2 * matrices) * 4;
  }
};

Eager of_call(const SelectiveScanArgs& args) {
  Eager e{};
  e.args = args;
  return e;
}

}  // namespace

std::int64_t selective_scan_eager_scratch(const SelectiveScanArgs& args) {
  const Eager e = of_call(args);
  return scratch_size(Sizes(e).bytes(e.state_dim()));
}

void selective_scan_eager(const SelectiveScanArgs& args, CUstream_st* stream) {
  Eager e = of_call(args);
  const Sizes sizes(e);
  const auto [pitch, matrices] = sizes;
  const Workspace workspace(sizes.bytes(e.state_dim()), stream);
  e.delta = workspace.as<float>();
  e.other = e.delta + pitch;
  e.y = e.other + pitch;
  e.decay = e.y + pitch;
  e.states = e.decay + pitch * e.state_dim();
  e.start = e.states + pitch * e.state_dim();
  e.decayed = e.start + matrices;
  if (e.state_dim() % 4 == 0) return run<4>(e, stream);
  run<1>(e, stream);
}

}  // namespace chunkstate::cuda
