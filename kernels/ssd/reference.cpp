// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/ssd/ssd.hpp"

namespace chunkstate::reference {
namespace {

/// delta_t of one head: the step size after bias, softplus and limits.
template <class Args>
double step_size(const Args& args, std::int64_t row, std::int64_t h) {
  const double v = static_cast<double>(args.dt.load(row, h)) + args.dt_bias(h);
  const double softplus = v > 20.0 ? v : std::log1p(std::exp(v));
  return std::min(std::max(softplus, static_cast<double>(args.dt_min)),
                  static_cast<double>(args.dt_max));
}

/// One head's states, [slots, head_dim, state_dim].
struct HeadState {
  std::int64_t slots;
  std::int64_t elements;  // of one slot
  std::vector<double> values;

  HeadState(std::int64_t slots_, std::int64_t elements_)
      : slots(slots_), elements(elements_), values(static_cast<std::size_t>(slots_ * elements_)) {}

  double* slot(std::int64_t s) { return values.data() + s * elements; }

  void reset(std::int64_t s) { std::fill_n(slot(s), elements, 0.0); }
};

/// Runs one token through all slots of head h and calls `emit(p, y)` for every element of y.
template <class Args, class Emit>
void advance(const Args& args, std::int64_t row, std::int64_t h, std::int64_t open_slot,
             HeadState& state, Emit&& emit) {
  const std::int64_t head_dim = args.x.extent[2];
  const std::int64_t state_dim = args.B.extent[2];
  const std::int64_t g = h / (args.x.extent[1] / args.B.extent[1]);
  const double delta = step_size(args, row, h);
  const double decay = std::exp(delta * args.A(h));
  for (double& s : state.values) s *= decay;
  for (std::int64_t p = 0; p < head_dim; ++p) {
    const double x = args.x.load(row, h, p);
    double* open = state.slot(open_slot) + p * state_dim;
    double y = args.D(h) * x;
    for (std::int64_t n = 0; n < state_dim; ++n) {
      open[n] += delta * x * args.B.load(row, g, n);
      double seen = 0.0;
      for (std::int64_t s = 0; s < state.slots; ++s) seen += state.slot(s)[p * state_dim + n];
      y += seen * args.C.load(row, g, n);
    }
    emit(p, y);
  }
}

/// Copies head h of `stored` [slots, heads, head_dim, state_dim] into `state` or back.
void load_state(const AnyView<4>& stored, std::int64_t h, HeadState& state) {
  const std::int64_t state_dim = stored.extent[3];
  for (std::int64_t s = 0; s < state.slots; ++s) {
    for (std::int64_t e = 0; e < state.elements; ++e) {
      state.slot(s)[e] = stored.load(s, h, e / state_dim, e % state_dim);
    }
  }
}

void store_state(HeadState& state, std::int64_t h, const AnyView<4>& stored) {
  const std::int64_t state_dim = stored.extent[3];
  for (std::int64_t s = 0; s < state.slots; ++s) {
    for (std::int64_t e = 0; e < state.elements; ++e) {
      stored.store(static_cast<float>(state.slot(s)[e]), s, h, e / state_dim, e % state_dim);
    }
  }
}

void causal_head(SsdSemantics semantics, const SsdArgs& args, std::int64_t h, HeadState& state) {
  for (std::int64_t t = 0; t < args.x.extent[0]; ++t) {
    const std::int64_t position = args.first_position + t;
    const std::int64_t open_slot = position / args.chunk_size % state.slots;
    if (semantics != SsdSemantics::exact && position % args.chunk_size == 0) state.reset(open_slot);
    advance(args, t, h, open_slot, state,
            [&](std::int64_t p, double y) { args.y.store(static_cast<float>(y), t, h, p); });
  }
}

/// y_t = y_t^independent + exp(Lambda_t) C_t U_c, Lambda_t = sum of delta A from the chunk's start
/// to t.
void own_end_state_head(const SsdArgs& args, std::int64_t h, HeadState& state) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t head_dim = args.x.extent[2];
  const std::int64_t state_dim = args.B.extent[2];
  const std::int64_t g = h / (args.x.extent[1] / args.B.extent[1]);
  std::vector<double> independent(static_cast<std::size_t>(args.chunk_size * head_dim));
  for (std::int64_t begin = 0; begin < tokens; begin += args.chunk_size) {
    const std::int64_t end = std::min(begin + args.chunk_size, tokens);
    state.reset(0);
    for (std::int64_t t = begin; t < end; ++t) {
      advance(args, t, h, 0, state,
              [&](std::int64_t p, double y) { independent[(t - begin) * head_dim + p] = y; });
    }
    double lambda = 0.0;
    for (std::int64_t t = begin; t < end; ++t) {
      lambda += step_size(args, t, h) * args.A(h);
      for (std::int64_t p = 0; p < head_dim; ++p) {
        double read = 0.0;
        for (std::int64_t n = 0; n < state_dim; ++n) {
          read += args.C.load(t, g, n) * state.slot(0)[p * state_dim + n];
        }
        const double y = independent[(t - begin) * head_dim + p] + std::exp(lambda) * read;
        args.y.store(static_cast<float>(y), t, h, p);
      }
    }
  }
}

}  // namespace

void ssd_scan(SsdSemantics semantics, const SsdArgs& args) {
  const std::int64_t slots = semantics == SsdSemantics::lookback ? args.lookback + 1 : 1;
  for (std::int64_t h = 0; h < args.x.extent[1]; ++h) {
    HeadState state(slots, args.x.extent[2] * args.B.extent[2]);
    if (args.state) load_state(args.state, h, state);
    if (semantics == SsdSemantics::own_end_state) {
      own_end_state_head(args, h, state);
    } else {
      causal_head(semantics, args, h, state);
    }
    if (args.state) store_state(state, h, args.state);
  }
}

void ssd_step(SsdSemantics semantics, const SsdStepArgs& args) {
  for (std::int64_t b = 0; b < args.x.extent[0]; ++b) {
    const std::int64_t position = args.positions(b);
    for (std::int64_t h = 0; h < args.x.extent[1]; ++h) {
      HeadState state(args.state.extent[1], args.x.extent[2] * args.B.extent[2]);
      load_state(args.state[b], h, state);
      const std::int64_t open_slot = position / args.chunk_size % state.slots;
      if (semantics != SsdSemantics::exact && position % args.chunk_size == 0) {
        state.reset(open_slot);
      }
      advance(args, b, h, open_slot, state,
              [&](std::int64_t p, double y) { args.y.store(static_cast<float>(y), b, h, p); });
      store_state(state, h, args.state[b]);
    }
  }
}

}  // namespace chunkstate::reference
