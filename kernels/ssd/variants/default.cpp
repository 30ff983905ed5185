// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/base/rows.hpp"
#include "kernels/base/simd.hpp"
#include "kernels/ssd/ssd.hpp"

// The baseline: the five stages of the chunked form (bamba.md 2.3) one after the other, each for
// all tokens and heads, with its result in memory, as the seed project's module and ssd_minimal.py
// do it. Two intermediates have chunks * heads * chunk_size^2 elements. Loops are threaded and
// vectorised; nothing is fused or blocked, and nothing is shared between heads.

namespace chunkstate::cpu {
namespace {

struct Stages {
  std::int64_t tokens, heads, head_dim, groups, state_dim, chunk_size, chunks;
  std::vector<float> x;       // [tokens, heads, head_dim]
  std::vector<float> B, C;    // [tokens, groups, state_dim]
  std::vector<float> delta;   // [heads, tokens]
  std::vector<double> sum;    // [heads, tokens]  of delta A, restarts per chunk
  std::vector<float> decay;   // [chunks, heads, chunk_size, chunk_size]  exp(segsum)
  std::vector<float> scores;  // [chunks, heads, chunk_size, chunk_size]  C B^T, then masked
  std::vector<float> states;  // [chunks + 1, heads, head_dim, state_dim]
  std::vector<float> y;       // [tokens, heads, head_dim]

  std::int64_t begin(std::int64_t chunk) const { return chunk * chunk_size; }
  std::int64_t length(std::int64_t chunk) const {
    return std::min(chunk_size, tokens - begin(chunk));
  }
  std::int64_t group(std::int64_t h) const { return h / (heads / groups); }
  float* square(std::vector<float>& squares, std::int64_t chunk, std::int64_t h) const {
    return squares.data() + (chunk * heads + h) * chunk_size * chunk_size;
  }
  float* state(std::int64_t chunk, std::int64_t h) {
    return states.data() + (chunk * heads + h) * head_dim * state_dim;
  }
};

CHUNKSTATE_MULTIVERSION
float dot(const float* a, const float* b, std::int64_t count) {
  float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

CHUNKSTATE_MULTIVERSION
void add_scaled(float factor, const float* source, std::int64_t count, float* target) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) target[i] += factor * source[i];
}

void load(const Executor& exec, const SsdArgs& args, Stages& s) {
#pragma omp parallel for num_threads(exec.threads)
  for (std::int64_t t = 0; t < s.tokens; ++t) {
    for (std::int64_t h = 0; h < s.heads; ++h) {
      copy_row(args.x.at(t, h, 0), args.x.dtype, s.head_dim,
               s.x.data() + (t * s.heads + h) * s.head_dim);
    }
    for (std::int64_t g = 0; g < s.groups; ++g) {
      const std::int64_t row = (t * s.groups + g) * s.state_dim;
      copy_row(args.B.at(t, g, 0), args.B.dtype, s.state_dim, s.B.data() + row);
      copy_row(args.C.at(t, g, 0), args.C.dtype, s.state_dim, s.C.data() + row);
    }
  }
}

void sum_decay(const Executor& exec, const SsdArgs& args, Stages& s) {
#pragma omp parallel for num_threads(exec.threads)
  for (std::int64_t h = 0; h < s.heads; ++h) {
    double sum = 0.0;
    for (std::int64_t t = 0; t < s.tokens; ++t) {
      const float v = args.dt.load(t, h) + args.dt_bias(h);
      const float softplus = v > 20.0F ? v : std::log1p(std::exp(v));
      const float delta = std::min(std::max(softplus, args.dt_min), args.dt_max);
      if (t % s.chunk_size == 0) sum = 0.0;
      sum += static_cast<double>(delta) * args.A(h);
      s.delta[h * s.tokens + t] = delta;
      s.sum[h * s.tokens + t] = sum;
    }
  }
}

void segment_decay(const Executor& exec, Stages& s) {
#pragma omp parallel for collapse(2) num_threads(exec.threads)
  for (std::int64_t c = 0; c < s.chunks; ++c) {
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const double* const sum = s.sum.data() + h * s.tokens + s.begin(c);
      float* const decay = s.square(s.decay, c, h);
      for (std::int64_t i = 0; i < s.length(c); ++i) {
        for (std::int64_t j = 0; j < s.length(c); ++j) {
          const auto difference = static_cast<float>(sum[i] - sum[j]);
          decay[i * s.chunk_size + j] = j <= i ? std::exp(std::min(difference, 0.0F)) : 0.0F;
        }
      }
    }
  }
}

void scores(const Executor& exec, Stages& s) {
#pragma omp parallel for collapse(2) num_threads(exec.threads)
  for (std::int64_t c = 0; c < s.chunks; ++c) {
    for (std::int64_t h = 0; h < s.heads; ++h) {
      float* const score = s.square(s.scores, c, h);
      for (std::int64_t i = 0; i < s.length(c); ++i) {
        for (std::int64_t j = 0; j < s.length(c); ++j) {
          const std::int64_t row = (s.begin(c) + i) * s.groups + s.group(h);
          const std::int64_t column = (s.begin(c) + j) * s.groups + s.group(h);
          score[i * s.chunk_size + j] =
              dot(s.C.data() + row * s.state_dim, s.B.data() + column * s.state_dim, s.state_dim);
        }
      }
    }
  }
}

void mask(const Executor& exec, Stages& s) {
  const auto elements = static_cast<std::int64_t>(s.scores.size());
#pragma omp parallel for num_threads(exec.threads)
  for (std::int64_t i = 0; i < elements; ++i) s.scores[i] *= s.decay[i];
}

void diagonal_blocks(const Executor& exec, const SsdArgs& args, Stages& s) {
#pragma omp parallel for collapse(2) num_threads(exec.threads)
  for (std::int64_t c = 0; c < s.chunks; ++c) {
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const float* const masked = s.square(s.scores, c, h);
      for (std::int64_t i = 0; i < s.length(c); ++i) {
        const std::int64_t t = s.begin(c) + i;
        float* const y = s.y.data() + (t * s.heads + h) * s.head_dim;
        add_scaled(args.D(h), s.x.data() + (t * s.heads + h) * s.head_dim, s.head_dim, y);
        for (std::int64_t j = 0; j < s.length(c); ++j) {
          const std::int64_t source = s.begin(c) + j;
          add_scaled(masked[i * s.chunk_size + j] * s.delta[h * s.tokens + source],
                     s.x.data() + (source * s.heads + h) * s.head_dim, s.head_dim, y);
        }
      }
    }
  }
}

/// What each chunk writes; entry c + 1 becomes chunk c's end state in pass_states.
void chunk_states(const Executor& exec, Stages& s) {
#pragma omp parallel for collapse(2) num_threads(exec.threads)
  for (std::int64_t c = 0; c < s.chunks; ++c) {
    for (std::int64_t h = 0; h < s.heads; ++h) {
      const std::int64_t last = h * s.tokens + s.begin(c) + s.length(c) - 1;
      for (std::int64_t j = 0; j < s.length(c); ++j) {
        const std::int64_t t = s.begin(c) + j;
        const std::int64_t place = h * s.tokens + t;
        const float weight =
            std::exp(static_cast<float>(s.sum[last] - s.sum[place])) * s.delta[place];
        const float* const x = s.x.data() + (t * s.heads + h) * s.head_dim;
        const float* const B = s.B.data() + (t * s.groups + s.group(h)) * s.state_dim;
        for (std::int64_t p = 0; p < s.head_dim; ++p) {
          add_scaled(weight * x[p], B, s.state_dim, s.state(c + 1, h) + p * s.state_dim);
        }
      }
    }
  }
}

void pass_states(const Executor& exec, Stages& s) {
#pragma omp parallel for num_threads(exec.threads)
  for (std::int64_t h = 0; h < s.heads; ++h) {
    for (std::int64_t c = 0; c < s.chunks; ++c) {
      const std::int64_t last = h * s.tokens + s.begin(c) + s.length(c) - 1;
      add_scaled(std::exp(static_cast<float>(s.sum[last])), s.state(c, h), s.head_dim * s.state_dim,
                 s.state(c + 1, h));
    }
  }
}

void off_diagonal_blocks(const Executor& exec, Stages& s) {
#pragma omp parallel for collapse(2) num_threads(exec.threads)
  for (std::int64_t c = 0; c < s.chunks; ++c) {
    for (std::int64_t h = 0; h < s.heads; ++h) {
      for (std::int64_t i = 0; i < s.length(c); ++i) {
        const std::int64_t t = s.begin(c) + i;
        const float decay = std::exp(static_cast<float>(s.sum[h * s.tokens + t]));
        const float* const C = s.C.data() + (t * s.groups + s.group(h)) * s.state_dim;
        for (std::int64_t p = 0; p < s.head_dim; ++p) {
          s.y[(t * s.heads + h) * s.head_dim + p] +=
              decay * dot(C, s.state(c, h) + p * s.state_dim, s.state_dim);
        }
      }
    }
  }
}

Stages allocate(const SsdArgs& args) {
  Stages s{};
  s.tokens = args.x.extent[0];
  s.heads = args.x.extent[1];
  s.head_dim = args.x.extent[2];
  s.groups = args.B.extent[1];
  s.state_dim = args.B.extent[2];
  s.chunk_size = std::min(args.chunk_size, s.tokens);
  s.chunks = (s.tokens + s.chunk_size - 1) / s.chunk_size;
  const auto size = [](auto... extent) { return (static_cast<std::size_t>(extent) * ...); };
  s.x.resize(size(s.tokens, s.heads, s.head_dim));
  s.B.resize(size(s.tokens, s.groups, s.state_dim));
  s.C.resize(s.B.size());
  s.delta.resize(size(s.heads, s.tokens));
  s.sum.resize(s.delta.size());
  s.decay.resize(size(s.chunks, s.heads, s.chunk_size, s.chunk_size));
  s.scores.resize(s.decay.size());
  s.states.resize(size(s.chunks + 1, s.heads, s.head_dim, s.state_dim));
  s.y.resize(s.x.size());
  return s;
}

/// Moves the first (true) or last state between the caller's and the stages' memory.
void exchange_state(const SsdArgs& args, Stages& s, bool first) {
  if (!args.state) return;
  for (std::int64_t h = 0; h < s.heads; ++h) {
    for (std::int64_t p = 0; p < s.head_dim; ++p) {
      float* const row = s.state(first ? 0 : s.chunks, h) + p * s.state_dim;
      std::byte* const stored = args.state.at(0, h, p, 0);
      if (first) {
        copy_row(stored, args.state.dtype, s.state_dim, row);
      } else {
        store_row(row, s.state_dim, stored, args.state.dtype);
      }
    }
  }
}

}  // namespace

void default_scan(const Executor& exec, const SsdArgs& args) {
  if (args.x.extent[0] == 0) return;
  Stages s = allocate(args);
  load(exec, args, s);
  exchange_state(args, s, true);
  sum_decay(exec, args, s);
  segment_decay(exec, s);
  scores(exec, s);
  mask(exec, s);
  diagonal_blocks(exec, args, s);
  chunk_states(exec, s);
  pass_states(exec, s);
  off_diagonal_blocks(exec, s);
  exchange_state(args, s, false);
  for (std::int64_t t = 0; t < s.tokens; ++t) {
    for (std::int64_t h = 0; h < s.heads; ++h) {
      store_row(s.y.data() + (t * s.heads + h) * s.head_dim, s.head_dim, args.y.at(t, h, 0),
                args.y.dtype);
    }
  }
}

}  // namespace chunkstate::cpu
