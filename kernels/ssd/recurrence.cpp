// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/recurrence.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/base/rows.hpp"
#include "kernels/base/simd.hpp"
#include "kernels/ssd/decay.hpp"

namespace chunkstate::cpu {
namespace {

struct Shape {
  std::int64_t head_dim;
  std::int64_t state_dim;
};

/// S = decay S + (delta x) B^T;  y = S C + skip x. One pass over the state.
CHUNKSTATE_MULTIVERSION
void write_and_read(Shape shape, float decay, float delta, float skip, const float* x,
                    const float* B, const float* C, float* state, std::int64_t state_row,
                    float* y) {
  for (std::int64_t p = 0; p < shape.head_dim; ++p) {
    float* const row = state + p * state_row;
    const float written = delta * x[p];
    float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t n = 0; n < shape.state_dim; ++n) {
      const float value = decay * row[n] + written * B[n];
      row[n] = value;
      sum += value * C[n];
    }
    y[p] = sum + skip * x[p];
  }
}

/// S = decay S;  y += S C.
CHUNKSTATE_MULTIVERSION
void decay_and_read(Shape shape, float decay, const float* C, float* state, std::int64_t state_row,
                    float* y) {
  for (std::int64_t p = 0; p < shape.head_dim; ++p) {
    float* const row = state + p * state_row;
    float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t n = 0; n < shape.state_dim; ++n) {
      row[n] *= decay;
      sum += row[n] * C[n];
    }
    y[p] += sum;
  }
}

/// Scratch of one token of one head, and the fp32 states it works on.
struct Head {
  Shape shape;
  float* x;
  float* y;
  float* B;
  float* C;
  float* states;  // [slots, head_dim, state_dim], unless they lie elsewhere
  std::int64_t states_slot;
  std::int64_t states_row;

  template <class Args>
  Head(const Args& args, std::int64_t slots, Scratch& scratch)
      : shape{args.x.extent[2], args.B.extent[2]} {
    const std::int64_t head_row = padded(shape.head_dim);
    const std::int64_t state_row = padded(shape.state_dim);
    x = scratch.floats(2 * head_row + 2 * state_row +
                       slots * padded(shape.head_dim * shape.state_dim));
    y = x + head_row;
    B = y + head_row;
    C = B + state_row;
    states = C + state_row;
    states_slot = shape.head_dim * shape.state_dim;
    states_row = shape.state_dim;
  }

  float* slot(std::int64_t s) const { return states + s * states_slot; }
};

void copy_states(const AnyView<4>& stored, std::int64_t h, const Head& head) {
  for (std::int64_t s = 0; s < stored.extent[0]; ++s) {
    for (std::int64_t p = 0; p < head.shape.head_dim; ++p) {
      copy_row(stored.at(s, h, p, 0), stored.dtype, head.shape.state_dim,
               head.slot(s) + p * head.states_row);
    }
  }
}

void store_states(const Head& head, std::int64_t h, const AnyView<4>& stored) {
  for (std::int64_t s = 0; s < stored.extent[0]; ++s) {
    for (std::int64_t p = 0; p < head.shape.head_dim; ++p) {
      store_row(head.slot(s) + p * head.states_row, head.shape.state_dim, stored.at(s, h, p, 0),
                stored.dtype);
    }
  }
}

/// Row `row` (a token, or a sequence of the batch) of head h through all slots.
template <class Args>
void advance(SsdSemantics semantics, const Args& args, std::int64_t row, std::int64_t position,
             std::int64_t h, std::int64_t slots, const Head& head) {
  const std::int64_t g = h / (args.x.extent[1] / args.B.extent[1]);
  const Shape shape = head.shape;
  const float* const x = load_row(args.x.at(row, h, 0), args.x.dtype, shape.head_dim, head.x);
  const float* const B = load_row(args.B.at(row, g, 0), args.B.dtype, shape.state_dim, head.B);
  const float* const C = load_row(args.C.at(row, g, 0), args.C.dtype, shape.state_dim, head.C);
  const float dt = args.dt.load(row, h);
  float delta = 0.0F;
  step_sizes(&dt, &args.dt_bias(h), args.dt_min, args.dt_max, 1, &delta);
  const float decay = std::exp(delta * args.A(h));
  const std::int64_t open = position / args.chunk_size % slots;
  // What a chunk's first token finds in its slot is forgotten.
  const bool forgets = semantics != SsdSemantics::exact && position % args.chunk_size == 0;
  if (forgets) {
    for (std::int64_t p = 0; p < shape.head_dim; ++p) {
      std::fill_n(head.slot(open) + p * head.states_row, shape.state_dim, 0.0F);
    }
  }
  std::byte* const stored = args.y.at(row, h, 0);
  float* const y = output_row(stored, args.y.dtype, head.y);
  write_and_read(shape, decay, delta, args.D(h), x, B, C, head.slot(open), head.states_row, y);
  for (std::int64_t s = 0; s < slots; ++s) {
    if (s != open) decay_and_read(shape, decay, C, head.slot(s), head.states_row, y);
  }
  store_row(y, shape.head_dim, stored, args.y.dtype);
}

}  // namespace

void recurrent_scan(const Executor& exec, SsdSemantics semantics, const SsdArgs& args) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t heads = args.x.extent[1];
  const std::int64_t slots = semantics == SsdSemantics::lookback ? args.lookback + 1 : 1;
#pragma omp parallel for num_threads(exec.threads) if (heads > 1)
  for (std::int64_t h = 0; h < heads; ++h) {
    thread_local Scratch scratch;
    const Head head(args, slots, scratch);
    if (args.state) {
      copy_states(args.state, h, head);
    } else {
      std::fill_n(head.states, slots * head.states_slot, 0.0F);
    }
    for (std::int64_t t = 0; t < tokens; ++t) {
      advance(semantics, args, t, args.first_position + t, h, slots, head);
    }
    if (args.state) store_states(head, h, args.state);
  }
}

void ssd_step(const Executor& exec, SsdSemantics semantics, const SsdStepArgs& args) {
  const std::int64_t batch = args.x.extent[0];
  const std::int64_t heads = args.x.extent[1];
  const std::int64_t slots = args.state.extent[1];
#pragma omp parallel for collapse(2) num_threads(exec.threads) if (batch * heads > 1)
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      thread_local Scratch scratch;
      Head head(args, slots, scratch);
      const AnyView<4> stored = args.state[b];
      // A state in fp32 is worked on in place: the step is bound by reading and writing it.
      const bool in_place = stored.dtype == DType::fp32;
      if (in_place) {
        head.states = reinterpret_cast<float*>(stored.at(0, h, 0, 0));
        head.states_slot = stored.stride[0];
        head.states_row = stored.stride[2];
      } else {
        copy_states(stored, h, head);
      }
      advance(semantics, args, b, args.positions(b), h, slots, head);
      if (!in_place) store_states(head, h, stored);
    }
  }
}

}  // namespace chunkstate::cpu
