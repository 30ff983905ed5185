// SPDX-License-Identifier: Apache-2.0
#include "kernels/selective_scan/selective_scan.hpp"

#include <limits>
#include <string>
#include <utility>

#include "kernels/base/check.hpp"
#include "kernels/base/launches.hpp"

namespace chunkstate {
namespace {

constexpr const char* op = "selective_scan";
constexpr std::int64_t max_cuda_state_dim = 128;

void check(const SelectiveScanArgs& args) {
  const auto [batch, tokens, channels] = args.x.extent;
  const std::int64_t state_dim = args.B.extent[2];
  const char* const rows = "batch x tokens x channels";
  check_shape(op, "x", args.x, {batch, tokens, channels}, rows);
  check_shape(op, "dt", args.dt, {batch, tokens, channels}, rows);
  check_shape(op, "B", args.B, {batch, tokens, state_dim}, "batch x tokens x state_dim");
  check_shape(op, "C", args.C, {batch, tokens, state_dim}, "batch x tokens x state_dim");
  if (args.z) check_shape(op, "z", args.z, {batch, tokens, channels}, rows);
  check_shape(op, "A", args.A, {channels, state_dim}, "channels x state_dim");
  if (args.dt_bias) check_shape(op, "dt_bias", args.dt_bias, {channels}, "channels");
  if (args.D) check_shape(op, "D", args.D, {channels}, "channels");
  check_shape(op, "y", args.y, {batch, tokens, channels}, rows);
  if (args.state) {
    check_shape(op, "state", args.state, {batch, channels, state_dim},
                "batch x channels x state_dim");
  }
  for (const auto& [name, value] :
       {std::pair("state_dim", state_dim), std::pair("chunk_size", args.chunk_size)}) {
    if (value < 1) {
      throw ShapeError(std::string(op) + ": " + name + " is " + std::to_string(value) +
                       ", expected at least 1");
    }
  }
}

// The kernels count bytes between tokens in 32 bits.
template <class AView>
void check_cuda_stride(const char* name, const AView& view) {
  const auto most =
      std::numeric_limits<std::int32_t>::max() / static_cast<std::int64_t>(bytes_of(view.dtype));
  if (view.extent[1] <= 1 || (view.stride[1] >= 0 && view.stride[1] <= most)) return;
  throw ShapeError(std::string(op) + ": tokens of " + name + " are " +
                   std::to_string(view.stride[1]) +
                   " elements apart, the cuda backend takes at most " + std::to_string(most));
}

void check_cuda(const SelectiveScanArgs& args) {
  if (args.B.extent[2] > max_cuda_state_dim) {
    throw ShapeError(std::string(op) + ": state_dim is " + std::to_string(args.B.extent[2]) +
                     ", the cuda backend takes at most " + std::to_string(max_cuda_state_dim));
  }
  check_cuda_stride("x", args.x);
  check_cuda_stride("dt", args.dt);
  check_cuda_stride("B", args.B);
  check_cuda_stride("C", args.C);
  check_cuda_stride("z", args.z);
  check_cuda_stride("y", args.y);
}

}  // namespace

void selective_scan(const Executor& exec, const SelectiveScanVariant& variant,
                    const SelectiveScanArgs& args) {
  check(args);
  if (args.x.extent[0] == 0 || args.x.extent[1] == 0 || args.x.extent[2] == 0) return;
  count_launches(variant.launches(args));
  switch (exec.backend) {
    case Backend::reference:
      return reference::selective_scan(args);
    case Backend::cpu:
      return variant.cpu(exec, args);
    case Backend::cuda:
      check_cuda(args);
      if (variant.cuda != nullptr) return variant.cuda(args, exec.stream);
  }
  throw BackendError(std::string(op) + "(" + std::string(variant.name) + ")", exec.backend);
}

}  // namespace chunkstate
