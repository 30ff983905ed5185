// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv1d/conv1d.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/launches.hpp"

namespace chunkstate {
namespace {

void check_filter(const char* op, const ConstAnyView<2>& weight, const ConstAnyView<1>& bias,
                  std::int64_t channels) {
  const std::int64_t taps = weight.extent[1];
  if (taps < 1) throw ShapeError(std::string(op) + ": weight has no taps");
  check_shape(op, "weight", weight, {channels, taps}, "channels x taps");
  if (bias) check_shape(op, "bias", bias, {channels}, "channels");
}

}  // namespace

void conv1d(const Executor& exec, const Conv1dArgs& args) {
  const auto [tokens, channels] = args.x.extent;
  check_shape("conv1d", "x", args.x, {tokens, channels}, "tokens x channels");
  check_filter("conv1d", args.weight, args.bias, channels);
  if (args.window) {
    check_shape("conv1d", "window", args.window, {args.weight.extent[1] - 1, channels},
                "taps - 1 x channels");
  }
  check_shape("conv1d", "y", args.y, {tokens, channels}, "tokens x channels");
  count_launches();
  switch (exec.backend) {
    case Backend::reference:
      return reference::conv1d(args);
    case Backend::cpu:
      return cpu::conv1d(exec, args);
    case Backend::cuda:
      if constexpr (CHUNKSTATE_HAS_CUDA) return cuda::conv1d(args, exec.stream);
  }
  throw BackendError("conv1d", exec.backend);
}

void conv1d_step(const Executor& exec, const Conv1dStepArgs& args) {
  const auto [batch, channels] = args.x.extent;
  check_shape("conv1d_step", "x", args.x, {batch, channels}, "batch x channels");
  check_filter("conv1d_step", args.weight, args.bias, channels);
  check_shape("conv1d_step", "window", args.window, {batch, args.weight.extent[1] - 1, channels},
              "batch x taps - 1 x channels");
  check_shape("conv1d_step", "y", args.y, {batch, channels}, "batch x channels");
  count_launches();
  switch (exec.backend) {
    case Backend::reference:
      return reference::conv1d_step(args);
    case Backend::cpu:
      return cpu::conv1d_step(exec, args);
    case Backend::cuda:
      if constexpr (CHUNKSTATE_HAS_CUDA) return cuda::conv1d_step(args, exec.stream);
  }
  throw BackendError("conv1d_step", exec.backend);
}

}  // namespace chunkstate
