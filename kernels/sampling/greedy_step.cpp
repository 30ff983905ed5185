// SPDX-License-Identifier: Apache-2.0
#include "kernels/sampling/greedy_step.hpp"

#include <stdexcept>

#include "kernels/base/check.hpp"
#include "kernels/base/launches.hpp"

namespace chunkstate {

#if !CHUNKSTATE_HAS_CUDA
std::int64_t greedy_step_partials(std::int64_t) { return 0; }
#endif

void check_sampled(const Sampled& sampled) {
  if (sampled.token == nan_logit) throw std::domain_error("a logit is NaN");
  if (sampled.token < 0) throw std::domain_error("the largest logit is not finite");
}

void greedy_step(const Executor& exec, const GreedyStepArgs& args) {
  constexpr const char* op = "greedy_step";
  const auto [batch, vocab] = args.logits.extent;
  if (vocab < 1) throw ShapeError("greedy_step: logits has no elements");
  check_shape(op, "logits", args.logits, {batch, vocab}, "batch x vocab");
  check_shape(op, "tokens", args.tokens, {batch}, "batch");
  check_shape(op, "positions", args.positions, {batch}, "batch");
  check_shape(op, "lengths", args.lengths, {batch}, "batch");
  check_shape(op, "results", args.results, {args.results.extent[0], batch}, "slots x batch");
  check_shape(op, "steps", args.steps, {1}, "1");
  check_shape(op, "partials", args.partials, {greedy_step_partials(batch)}, "greedy_step_partials");
  if (exec.backend != Backend::cuda) throw BackendError(op, exec.backend);
  count_launches();
  if constexpr (CHUNKSTATE_HAS_CUDA) cuda::greedy_step(args, exec.stream);
}

}  // namespace chunkstate
