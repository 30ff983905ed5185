// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"
#include "kernels/sampling/sampling.hpp"

namespace chunkstate {

/// Greedy sampling where the logits are, and what the next decode step needs of it. All memory but
/// `logits` is small and written by one step, read by the next.
struct GreedyStepArgs {
  View<const float, 2> logits;      // [batch, vocab]
  View<std::int32_t, 1> tokens;     // [batch]  out: the largest logit's, the smallest among equals
  View<std::int64_t, 1> positions;  // [batch]  in and out: one more
  View<std::int64_t, 1> lengths;    // [batch]  in and out: one more
  View<Sampled, 2> results;      // [slots, batch]  out: row steps % slots; memory of the device, or
                                 // host memory that it can write
  View<std::uint64_t, 1> steps;  // [1]      in and out: one more
  View<float, 1> partials;       // greedy_step_partials(batch) floats of scratch
};
std::int64_t greedy_step_partials(std::int64_t batch);

/// What results holds instead of a token where sample() would throw; 0 is fed to the next step.
inline constexpr std::int32_t nan_logit = -1;
inline constexpr std::int32_t infinite_logit = -2;
/// Throws std::domain_error for these.
void check_sampled(const Sampled& sampled);

/// sample() with temperature 0 of every row, with fp32 sums. Backend::cuda only. Throws ShapeError,
/// BackendError. Asynchronous.
void greedy_step(const Executor& exec, const GreedyStepArgs& args);

namespace cuda {
void greedy_step(const GreedyStepArgs& args, CUstream_st* stream);
}

}  // namespace chunkstate
