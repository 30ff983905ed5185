// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear/linear_step.hpp"

#include <string>

#include "kernels/base/check.hpp"
#include "kernels/base/launches.hpp"

namespace chunkstate {
namespace {

constexpr const char* op = "linear_step";

void check_convolution(const LinearStepArgs& args, std::int64_t tokens) {
  const StepConvolution& conv = args.convolution;
  const auto [channels, taps] = conv.weight.extent;
  check_shape(op, "convolution.weight", conv.weight, {channels, taps}, "channels x taps");
  if (conv.bias) check_shape(op, "convolution.bias", conv.bias, {channels}, "channels");
  check_shape(op, "convolution.window", conv.window, {tokens, taps - 1, channels},
              "tokens x taps - 1 x channels");
  if (conv.first < 0 || conv.first + channels > args.products[0].weight.extent[0]) {
    throw ShapeError(std::string(op) + ": the convolution's columns end at " +
                     std::to_string(conv.first + channels) + ", y has " +
                     std::to_string(args.products[0].weight.extent[0]));
  }
}

void check(const LinearStepArgs& args) {
  const auto [tokens, in] = args.x.extent;
  check_shape(op, "x", args.x, {tokens, in}, "tokens x in");
  if (args.norm) check_shape(op, "norm", args.norm, {in}, "in");
  if (args.squares) {
    check_shape(op, "squares", args.squares, {tokens, args.squares.extent[1]}, "tokens x parts");
  }
  for (const LinearProduct& product : args.products) {
    if (!product.weight) break;
    const std::int64_t out = product.weight.extent[0];
    check_shape(op, "weight", product.weight, {out, in}, "out x in");
    if (product.bias) check_shape(op, "bias", product.bias, {out}, "out");
    const bool second_factor = args.sink == StepSink::silu_mul && &product != args.products.data();
    if (!second_factor) check_shape(op, "y", product.y, {tokens, out}, "tokens x out");
  }
  if (args.sink == StepSink::silu_mul) {
    check_shape(op, "weight", args.products[1].weight, {args.products[0].weight.extent[0], in},
                "out x in");
  }
  if (args.sink == StepSink::convolve) check_convolution(args, tokens);
  if (args.squares_out) {
    check_shape(op, "squares_out", args.squares_out,
                {tokens, (args.products[0].weight.extent[0] + 15) / 16}, "tokens x ceil(out / 16)");
  }
  check_shape(op, "counters", args.counters, {linear_step_counters(args)}, "linear_step_counters");
  const std::int64_t partials = linear_step_partials(args);
  if (args.partials.extent[0] < partials) {
    throw ShapeError(std::string(op) + ": partials has " + std::to_string(args.partials.extent[0]) +
                     " elements, expected at least " + std::to_string(partials));
  }
}

}  // namespace

#if !CHUNKSTATE_HAS_CUDA
bool linear_step_applies(const LinearStepArgs&) { return false; }
std::int64_t linear_step_counters(const LinearStepArgs&) { return 0; }
std::int64_t linear_step_partials(const LinearStepArgs&) { return 0; }
#endif

void linear_step(const Executor& exec, const LinearStepArgs& args) {
  if (exec.backend != Backend::cuda || !linear_step_applies(args)) {
    throw BackendError(op, exec.backend);
  }
  check(args);
  count_launches();
  if constexpr (CHUNKSTATE_HAS_CUDA) cuda::linear_step(args, exec.stream);
}

}  // namespace chunkstate
