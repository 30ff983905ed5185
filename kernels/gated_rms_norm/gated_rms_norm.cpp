// SPDX-License-Identifier: Apache-2.0
#include "kernels/gated_rms_norm/gated_rms_norm.hpp"

#include <string>

#include "kernels/base/check.hpp"
#include "kernels/base/launches.hpp"

namespace chunkstate {

void gated_rms_norm(const Executor& exec, const GatedRmsNormArgs& args) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t channels = args.x.extent[1];
  check_shape("gated_rms_norm", "x", args.x, {tokens, channels}, "tokens x channels");
  check_shape("gated_rms_norm", "z", args.z, {tokens, channels}, "tokens x channels");
  check_shape("gated_rms_norm", "weight", args.weight, {channels}, "channels");
  check_shape("gated_rms_norm", "y", args.y, {tokens, channels}, "tokens x channels");
  if (args.groups < 1 || channels % args.groups != 0) {
    throw ShapeError("gated_rms_norm: " + std::to_string(args.groups) + " groups do not divide " +
                     std::to_string(channels) + " channels");
  }
  if (args.squares) {
    check_shape("gated_rms_norm", "squares", args.squares, {tokens}, "tokens");
    if (args.squares_channels < channels) {
      throw ShapeError("gated_rms_norm: squares of " + std::to_string(args.squares_channels) +
                       " channels, here are " + std::to_string(channels));
    }
    if (args.groups > 1) {
      throw ShapeError("gated_rms_norm: squares are of 1 group, here are " +
                       std::to_string(args.groups));
    }
  }
  count_launches();
  switch (exec.backend) {
    case Backend::reference:
      return reference::gated_rms_norm(args);
    case Backend::cpu:
      return cpu::gated_rms_norm(exec, args);
    case Backend::cuda:
      if constexpr (CHUNKSTATE_HAS_CUDA) return cuda::gated_rms_norm(args, exec.stream);
  }
  throw BackendError("gated_rms_norm", exec.backend);
}

void gated_squares(const Executor& exec, const GatedRmsNormArgs& args) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t channels = args.x.extent[1];
  check_shape("gated_squares", "x", args.x, {tokens, channels}, "tokens x channels");
  check_shape("gated_squares", "z", args.z, {tokens, channels}, "tokens x channels");
  check_shape("gated_squares", "squares", args.squares, {tokens}, "tokens");
  switch (exec.backend) {
    case Backend::reference:
      return reference::gated_squares(args);
    case Backend::cpu:
      return cpu::gated_squares(exec, args);
    case Backend::cuda:
      if constexpr (CHUNKSTATE_HAS_CUDA) return cuda::gated_squares(args, exec.stream);
  }
  throw BackendError("gated_squares", exec.backend);
}

}  // namespace chunkstate
