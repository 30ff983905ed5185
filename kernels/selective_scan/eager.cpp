// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "kernels/base/rows.hpp"
#include "kernels/base/simd.hpp"
#include "kernels/base/trace.hpp"
#include "kernels/base/vector_math.hpp"
#include "kernels/selective_scan/elementwise.hpp"
#include "kernels/selective_scan/selective_scan.hpp"

// The baseline, as an eager framework runs the textbook form: every operation is a sweep of its own
// over memory, decays and states of all tokens are materialised, and the recurrence is two
// operations per token. Each sweep is threaded and vectorised; nothing is fused.

namespace chunkstate::cpu {
namespace {

CHUNKSTATE_MULTIVERSION
void scale(float factor, const float* values, std::int64_t count, float* result) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) result[i] = factor * values[i];
}

CHUNKSTATE_MULTIVERSION
void multiply(const float* a, const float* b, std::int64_t count, float* product) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) product[i] = a[i] * b[i];
}

CHUNKSTATE_MULTIVERSION
void add(const float* a, const float* b, std::int64_t count, float* sum) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) sum[i] = a[i] + b[i];
}

CHUNKSTATE_MULTIVERSION
void exponentiate(std::int64_t count, float* values) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) values[i] = fast_exp(values[i]);
}

CHUNKSTATE_MULTIVERSION
void apply_silu(std::int64_t count, float* values) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) values[i] = fast_silu(values[i]);
}

CHUNKSTATE_MULTIVERSION
float dot(const float* a, const float* b, std::int64_t count) {
  float sum = 0.0F;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

/// The intermediates, packed, in memory that the calling thread keeps.
class EagerScan {
 public:
  EagerScan(const Executor& exec, const SelectiveScanArgs& args)
      : exec_(exec),
        args_(args),
        batch_(args.x.extent[0]),
        tokens_(args.x.extent[1]),
        channels_(args.x.extent[2]),
        state_dim_(args.B.extent[2]),
        matrix_(channels_ * state_dim_) {
    thread_local Scratch scratch;
    const std::int64_t rows = batch_ * tokens_ * channels_;
    float* memory = scratch.floats(3 * rows + 2 * rows * state_dim_ + 2 * batch_ * matrix_);
    const auto take = [&](std::int64_t floats) { return std::exchange(memory, memory + floats); };
    delta_ = take(rows), other_ = take(rows), y_ = take(rows);
    decay_ = take(rows * state_dim_), states_ = take(rows * state_dim_);
    start_ = take(batch_ * matrix_), decayed_ = take(batch_ * matrix_);
  }

  void run() {
    const SelectiveScanArgs& a = args_;
    sweep_rows("step size sum", [&](std::int64_t b, std::int64_t t) {
      copy_row(a.dt.at(b, t, 0), a.dt.dtype, channels_, row(delta_, b, t));
      if (a.dt_bias) add(row(delta_, b, t), a.dt_bias.data, channels_, row(delta_, b, t));
    });
    if (a.softplus) {
      sweep_rows("softplus", [&](std::int64_t b, std::int64_t t) {
        scan_step_sizes(row(delta_, b, t), nullptr, true, channels_, row(delta_, b, t));
      });
    }
    discretise();
    recur();
    sweep_rows("read", [&](std::int64_t b, std::int64_t t) {
      thread_local Scratch scratch;
      const float* const C =
          load_row(a.C.at(b, t, 0), a.C.dtype, state_dim_, scratch.floats(state_dim_));
      const float* const h = matrix(states_, b, t);
      for (std::int64_t d = 0; d < channels_; ++d) {
        row(y_, b, t)[d] = dot(h + d * state_dim_, C, state_dim_);
      }
      if (!a.D && !a.z) store(b, t);
    });
    if (a.D) skip();
    if (a.z) gate();
  }

 private:
  void discretise() {
    const SelectiveScanArgs& a = args_;
    sweep_rows("decay product", [&](std::int64_t b, std::int64_t t) {
      float* const decay = matrix(decay_, b, t);
      for (std::int64_t d = 0; d < channels_; ++d) {
        scale(row(delta_, b, t)[d], &a.A(d, 0), state_dim_, decay + d * state_dim_);
      }
    });
    sweep_rows("decay exp", [&](std::int64_t b, std::int64_t t) {
      exponentiate(matrix_, matrix(decay_, b, t));
    });
    sweep_rows("written product", [&](std::int64_t b, std::int64_t t) {
      float* const product = row(other_, b, t);
      copy_row(a.x.at(b, t, 0), a.x.dtype, channels_, product);
      multiply(row(delta_, b, t), product, channels_, product);
    });
    sweep_rows("written outer product", [&](std::int64_t b, std::int64_t t) {
      thread_local Scratch scratch;
      const float* const B =
          load_row(a.B.at(b, t, 0), a.B.dtype, state_dim_, scratch.floats(state_dim_));
      float* const written = matrix(states_, b, t);
      for (std::int64_t d = 0; d < channels_; ++d) {
        scale(row(other_, b, t)[d], B, state_dim_, written + d * state_dim_);
      }
    });
  }

  // states_ holds what each token writes, and then the state after it.
  void recur() {
    sweep("start state", batch_ * channels_, [&](std::int64_t i) {
      for (std::int64_t n = 0; n < state_dim_; ++n) {
        start_[i * state_dim_ + n] =
            args_.state ? args_.state.load(i / channels_, i % channels_, n) : 0.0F;
      }
    });
    for (std::int64_t t = 0; t < tokens_; ++t) {
      const auto at = [&](float* values, std::int64_t i) {
        return matrix(values, i / channels_, t) + i % channels_ * state_dim_;
      };
      sweep_step("decay state", [&](std::int64_t i, std::int64_t count) {
        const float* const before = t == 0 ? start_ + i * state_dim_ : at(states_, i) - matrix_;
        multiply(at(decay_, i), before, count, decayed_ + i * state_dim_);
      });
      sweep_step("add written", [&](std::int64_t i, std::int64_t count) {
        add(decayed_ + i * state_dim_, at(states_, i), count, at(states_, i));
      });
    }
    if (!args_.state) return;
    sweep("end state", batch_ * channels_, [&](std::int64_t i) {
      const float* const h = matrix(states_, i / channels_, tokens_ - 1);
      for (std::int64_t n = 0; n < state_dim_; ++n) {
        args_.state.store(h[i % channels_ * state_dim_ + n], i / channels_, i % channels_, n);
      }
    });
  }

  void skip() {
    const SelectiveScanArgs& a = args_;
    sweep_rows("skip product", [&](std::int64_t b, std::int64_t t) {
      float* const product = row(other_, b, t);
      copy_row(a.x.at(b, t, 0), a.x.dtype, channels_, product);
      multiply(a.D.data, product, channels_, product);
    });
    sweep_rows("skip sum", [&](std::int64_t b, std::int64_t t) {
      add(row(y_, b, t), row(other_, b, t), channels_, row(y_, b, t));
      if (!a.z) store(b, t);
    });
  }

  void gate() {
    sweep_rows("silu", [&](std::int64_t b, std::int64_t t) {
      copy_row(args_.z.at(b, t, 0), args_.z.dtype, channels_, row(other_, b, t));
      apply_silu(channels_, row(other_, b, t));
    });
    sweep_rows("gate product", [&](std::int64_t b, std::int64_t t) {
      multiply(row(y_, b, t), row(other_, b, t), channels_, row(y_, b, t));
      store(b, t);
    });
  }

  float* row(float* values, std::int64_t b, std::int64_t t) const {
    return values + (b * tokens_ + t) * channels_;
  }
  float* matrix(float* values, std::int64_t b, std::int64_t t) const {
    return values + (b * tokens_ + t) * matrix_;
  }
  void store(std::int64_t b, std::int64_t t) {
    store_row(row(y_, b, t), channels_, args_.y.at(b, t, 0), args_.y.dtype);
  }

  /// One operation: `body(i)` for `count` units, shared out over threads.
  template <class Body>
  void sweep(const char* name, std::int64_t count, Body&& body) {
    const TraceRegion region(name, TraceDetail::step);
#pragma omp parallel for num_threads(exec_.threads) if (count > 1)
    for (std::int64_t i = 0; i < count; ++i) body(i);
  }
  template <class Body>
  void sweep_rows(const char* name, Body&& body) {
    sweep(name, batch_ * tokens_, [&](std::int64_t i) { body(i / tokens_, i % tokens_); });
  }
  /// One operation on the states of all channels: `body(first channel, floats)` for runs of
  /// channels, numbered across the batch, that lie in one sequence.
  template <class Body>
  void sweep_step(const char* name, Body&& body) {
    constexpr std::int64_t run = 128;  // 8 KB at state_dim 16
    const std::int64_t runs = (channels_ + run - 1) / run;
    sweep(name, batch_ * runs, [&](std::int64_t i) {
      const std::int64_t first = i % runs * run;
      body(i / runs * channels_ + first, std::min(run, channels_ - first) * state_dim_);
    });
  }

  const Executor& exec_;
  const SelectiveScanArgs& args_;
  std::int64_t batch_, tokens_, channels_, state_dim_;
  std::int64_t matrix_;         // elements of a sequence's state
  float *delta_, *other_, *y_;  // [batch, tokens, channels]
  float *decay_, *states_;      // [batch, tokens, channels, state_dim]
  float *start_, *decayed_;     // [batch, channels, state_dim]
};

}  // namespace

void selective_scan_eager(const Executor& exec, const SelectiveScanArgs& args) {
  EagerScan(exec, args).run();
}

}  // namespace chunkstate::cpu
