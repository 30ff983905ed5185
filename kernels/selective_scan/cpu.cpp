// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "kernels/base/rows.hpp"
#include "kernels/base/simd.hpp"
#include "kernels/base/trace.hpp"
#include "kernels/base/vector_math.hpp"
#include "kernels/selective_scan/elementwise.hpp"
#include "kernels/selective_scan/selective_scan.hpp"

namespace chunkstate::cpu {
namespace {

// A unit of work is a block of channels of one sequence. Its states and decay rates, [state_dim,
// block], take 8 KB at state_dim 16 and so stay in the first-level cache from token to token.
constexpr std::int64_t block = 64;

std::int64_t blocks_of(std::int64_t channels) { return (channels + block - 1) / block; }

/// One token: h = exp(delta A) h + written B^T,  y = h C.
CHUNKSTATE_MULTIVERSION
void advance(std::int64_t channels, std::int64_t state_dim, const float* delta,
             const float* written, const float* A, const float* B, const float* C, float* h,
             float* y) {
  for (std::int64_t d = 0; d < channels; ++d) y[d] = 0.0F;
  for (std::int64_t n = 0; n < state_dim; ++n) {
    const float* const rate = A + n * block;
    float* const state = h + n * block;
    const float b = B[n];
    const float c = C[n];
#pragma omp simd
    for (std::int64_t d = 0; d < channels; ++d) {
      const float value = fast_exp(delta[d] * rate[d]) * state[d] + written[d] * b;
      state[d] = value;
      y[d] += c * value;
    }
  }
}

/// The same without reading, and with the sum of the step sizes.
CHUNKSTATE_MULTIVERSION
void advance_silently(std::int64_t channels, std::int64_t state_dim, const float* delta,
                      const float* written, const float* A, const float* B, float* h,
                      float* delta_sum) {
#pragma omp simd
  for (std::int64_t d = 0; d < channels; ++d) delta_sum[d] += delta[d];
  for (std::int64_t n = 0; n < state_dim; ++n) {
    const float* const rate = A + n * block;
    float* const state = h + n * block;
    const float b = B[n];
#pragma omp simd
    for (std::int64_t d = 0; d < channels; ++d) {
      state[d] = fast_exp(delta[d] * rate[d]) * state[d] + written[d] * b;
    }
  }
}

CHUNKSTATE_MULTIVERSION
void multiply(const float* a, const float* b, std::int64_t count, float* product) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) product[i] = a[i] * b[i];
}

/// A block of channels of one sequence with its state, in scratch memory of the calling thread.
class BlockScan {
 public:
  BlockScan(const SelectiveScanArgs& args, std::int64_t sequence, std::int64_t first,
            Scratch& scratch)
      : args_(args),
        sequence_(sequence),
        first_(first),
        channels_(std::min(block, args.x.extent[2] - first)),
        state_dim_(args.B.extent[2]) {
    const std::int64_t matrix = state_dim_ * block;
    const std::int64_t row = padded(state_dim_);
    float* memory = scratch.floats(2 * matrix + 2 * row + 6 * block);
    const auto take = [&](std::int64_t floats) { return std::exchange(memory, memory + floats); };
    A_ = take(matrix), h_ = take(matrix), B_ = take(row), C_ = take(row);
    delta_ = take(block), x_ = take(block), z_ = take(block), written_ = take(block);
    y_ = take(block), delta_sum_ = take(block);
    for (std::int64_t n = 0; n < state_dim_; ++n) {
      for (std::int64_t d = 0; d < channels_; ++d) A_[n * block + d] = args.A(first + d, n);
    }
  }

  /// [state_dim, block]; 0 where nothing was loaded.
  float* state() { return h_; }

  void load_state() {
    std::fill_n(h_, state_dim_ * block, 0.0F);
    if (!args_.state) return;
    for (std::int64_t d = 0; d < channels_; ++d) {
      for (std::int64_t n = 0; n < state_dim_; ++n) {
        h_[n * block + d] = args_.state.load(sequence_, first_ + d, n);
      }
    }
  }
  void store_state() const {
    if (!args_.state) return;
    for (std::int64_t d = 0; d < channels_; ++d) {
      for (std::int64_t n = 0; n < state_dim_; ++n) {
        args_.state.store(h_[n * block + d], sequence_, first_ + d, n);
      }
    }
  }

  /// Tokens [begin, end) from and into the state, with their outputs.
  void scan(std::int64_t begin, std::int64_t end) {
    for (std::int64_t t = begin; t < end; ++t) {
      const float* const x = read(t);
      const float* const C = load_row(args_.C.at(sequence_, t, 0), args_.C.dtype, state_dim_, C_);
      std::byte* const stored = args_.y.at(sequence_, t, first_);
      float* const y = output_row(stored, args_.y.dtype, y_);
      advance(channels_, state_dim_, delta_, written_, A_, B_row_, C, h_, y);
      const float* z = nullptr;
      if (args_.z) z = load_row(args_.z.at(sequence_, t, first_), args_.z.dtype, channels_, z_);
      skip_and_gate(x, args_.D ? &args_.D(first_) : nullptr, z, channels_, y);
      store_row(y, channels_, stored, args_.y.dtype);
    }
  }

  /// The same without outputs, from a zero state. The sums of the step sizes, [block].
  const float* scan_silently(std::int64_t begin, std::int64_t end) {
    std::fill_n(h_, state_dim_ * block, 0.0F);
    std::fill_n(delta_sum_, block, 0.0F);
    for (std::int64_t t = begin; t < end; ++t) {
      read(t);
      advance_silently(channels_, state_dim_, delta_, written_, A_, B_row_, h_, delta_sum_);
    }
    return delta_sum_;
  }

  /// `start`, [state_dim, block], becomes the state after a chunk that wrote `end` from zero.
  void pass(const float* delta_sum, const float* end, float* start) const {
    for (std::int64_t n = 0; n < state_dim_; ++n) {
      const std::int64_t row = n * block;
      for (std::int64_t d = 0; d < channels_; ++d) {
        start[row + d] = fast_exp(delta_sum[d] * A_[row + d]) * start[row + d] + end[row + d];
      }
    }
  }

 private:
  /// Step sizes, B and delta x of a token; returns x.
  const float* read(std::int64_t t) {
    const auto channel_row = [&](const ConstAnyView<3>& view, float* scratch) {
      return load_row(view.at(sequence_, t, first_), view.dtype, channels_, scratch);
    };
    const float* const x = channel_row(args_.x, x_);
    scan_step_sizes(channel_row(args_.dt, delta_), args_.dt_bias ? &args_.dt_bias(first_) : nullptr,
                    args_.softplus, channels_, delta_);
    multiply(delta_, x, channels_, written_);
    B_row_ = load_row(args_.B.at(sequence_, t, 0), args_.B.dtype, state_dim_, B_);
    return x;
  }

  const SelectiveScanArgs& args_;
  std::int64_t sequence_, first_, channels_, state_dim_;
  float *A_, *h_, *B_, *C_, *delta_, *x_, *z_, *written_, *y_, *delta_sum_;
  const float* B_row_ = nullptr;
};

/// Calls `body(sequence, first channel, chunk, scratch)` for all of them, shared out over threads.
template <class Body>
void for_blocks(const Executor& exec, const SelectiveScanArgs& args, std::int64_t chunks,
                Body&& body) {
  const std::int64_t batch = args.x.extent[0];
  const std::int64_t blocks = blocks_of(args.x.extent[2]);
#pragma omp parallel for collapse(3) num_threads(exec.threads) if (batch * blocks * chunks > 1)
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t i = 0; i < blocks; ++i) {
      for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
        thread_local Scratch scratch;
        body(b, i * block, chunk, scratch);
      }
    }
  }
}

/// Calls `body(sequence, token)` for all rows of channels.
template <class Body>
void for_rows(const Executor& exec, const SelectiveScanArgs& args, Body&& body) {
  const std::int64_t batch = args.x.extent[0];
  const std::int64_t tokens = args.x.extent[1];
#pragma omp parallel for collapse(2) num_threads(exec.threads) if (batch * tokens > 1)
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t t = 0; t < tokens; ++t) body(b, t);
  }
}

/// Memory that the calling thread keeps for the intermediates of a call.
Scratch& intermediates() {
  thread_local Scratch scratch;
  return scratch;
}

}  // namespace

void selective_scan_fused_block(const Executor& exec, const SelectiveScanArgs& args) {
  const TraceRegion region("selective_scan", TraceDetail::step);
  for_blocks(exec, args, 1, [&](std::int64_t b, std::int64_t first, std::int64_t, Scratch& memory) {
    BlockScan scan(args, b, first, memory);
    scan.load_state();
    scan.scan(0, args.x.extent[1]);
    scan.store_state();
  });
}

void selective_scan_fused(const Executor& exec, const SelectiveScanArgs& args) {
  const auto [batch, tokens, channels] = args.x.extent;
  const std::int64_t elements = batch * tokens * channels;
  float* const delta = intermediates().floats(2 * padded(elements));
  float* const y = delta + padded(elements);
  const auto row_of = [&, tokens = tokens, channels = channels](float* values, std::int64_t b,
                                                                std::int64_t t) {
    return values + (b * tokens + t) * channels;
  };
  {
    const TraceRegion region("selective_scan step sizes", TraceDetail::step);
    for_rows(exec, args, [&, channels = channels](std::int64_t b, std::int64_t t) {
      float* const row = row_of(delta, b, t);
      copy_row(args.dt.at(b, t, 0), args.dt.dtype, channels, row);
      scan_step_sizes(row, args.dt_bias.data, args.softplus, channels, row);
    });
  }
  SelectiveScanArgs scan = args;
  scan.dt = View<const float, 3>(delta, args.x.extent);
  scan.dt_bias = {};
  scan.softplus = false;
  scan.D = {};
  scan.z = {};
  scan.y = View<float, 3>(y, args.x.extent);
  selective_scan_fused_block(exec, scan);

  const TraceRegion region("selective_scan skip and gate", TraceDetail::step);
  for_rows(exec, args, [&, channels = channels](std::int64_t b, std::int64_t t) {
    thread_local Scratch scratch;
    float* const memory = scratch.floats(2 * padded(channels));
    const float* const x = load_row(args.x.at(b, t, 0), args.x.dtype, channels, memory);
    const float* z = nullptr;
    if (args.z) {
      z = load_row(args.z.at(b, t, 0), args.z.dtype, channels, memory + padded(channels));
    }
    float* const row = row_of(y, b, t);
    skip_and_gate(x, args.D.data, z, channels, row);
    store_row(row, channels, args.y.at(b, t, 0), args.y.dtype);
  });
}

void selective_scan_chunked(const Executor& exec, const SelectiveScanArgs& args) {
  const auto [batch, tokens, channels] = args.x.extent;
  const std::int64_t size = args.chunk_size;
  const std::int64_t chunks = (tokens + size - 1) / size;
  if (chunks == 1) return selective_scan_fused_block(exec, args);
  // Per sequence, block of channels and chunk: its end state from zero, then the state that it
  // starts from; and the sums of its step sizes.
  const std::int64_t matrix = args.B.extent[2] * block;
  const std::int64_t entries = batch * blocks_of(channels) * chunks;
  float* const states = intermediates().floats(entries * (matrix + block));
  float* const delta_sums = states + entries * matrix;
  const auto entry = [&, channels = channels](std::int64_t b, std::int64_t first,
                                              std::int64_t chunk) {
    return (b * blocks_of(channels) + first / block) * chunks + chunk;
  };
  {
    const TraceRegion region("selective_scan end states", TraceDetail::step);
    for_blocks(exec, args, chunks - 1,
               [&](std::int64_t b, std::int64_t first, std::int64_t chunk, Scratch& memory) {
                 BlockScan scan(args, b, first, memory);
                 const float* const sums = scan.scan_silently(chunk * size, (chunk + 1) * size);
                 const std::int64_t at = entry(b, first, chunk);
                 std::copy_n(sums, block, delta_sums + at * block);
                 std::copy_n(scan.state(), matrix, states + at * matrix);
               });
  }
  {
    const TraceRegion region("selective_scan pass states", TraceDetail::step);
    for_blocks(exec, args, 1,
               [&](std::int64_t b, std::int64_t first, std::int64_t, Scratch& memory) {
                 BlockScan scan(args, b, first, memory);
                 scan.load_state();
                 float* const start = scan.state();
                 for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
                   const std::int64_t at = entry(b, first, chunk);
                   float* const stored = states + at * matrix;
                   thread_local Scratch end;
                   float* const written = end.floats(matrix);
                   std::copy_n(stored, matrix, written);
                   std::copy_n(start, matrix, stored);
                   if (chunk + 1 < chunks) scan.pass(delta_sums + at * block, written, start);
                 }
               });
  }
  const TraceRegion region("selective_scan", TraceDetail::step);
  for_blocks(exec, args, chunks,
             [&, tokens = tokens](std::int64_t b, std::int64_t first, std::int64_t chunk,
                                  Scratch& memory) {
               BlockScan scan(args, b, first, memory);
               std::copy_n(states + entry(b, first, chunk) * matrix, matrix, scan.state());
               scan.scan(chunk * size, std::min((chunk + 1) * size, tokens));
               if (chunk + 1 == chunks) scan.store_state();
             });
}

}  // namespace chunkstate::cpu
