// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear/linear.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/launches.hpp"

namespace chunkstate {

namespace {

void check(const LinearArgs& args) {
  const std::int64_t tokens = args.x.extent[0];
  const auto [out_features, in_features] = args.weight.extent;
  check_shape("linear", "weight", args.weight, {out_features, in_features},
              "out_features x in_features");
  check_shape("linear", "x", args.x, {tokens, in_features}, "tokens x in_features");
  if (args.bias) check_shape("linear", "bias", args.bias, {out_features}, "out_features");
  check_shape("linear", "y", args.y, {tokens, out_features}, "tokens x out_features");
}

}  // namespace

void linear(const Executor& exec, const LinearArgs& args) { linear_group(exec, {&args, 1}); }

void linear_group(const Executor& exec, std::span<const LinearArgs> products) {
  for (const LinearArgs& args : products) {
    check(args);
    if (args.x.data != products[0].x.data || args.x.extent != products[0].x.extent) {
      throw ShapeError("linear_group: the products are not of the same x");
    }
  }
  if (exec.backend == Backend::cpu) {
    count_launches();
    return cpu::linear(exec, products);
  }
  for (const LinearArgs& args : products) {
    count_launches();
    if (exec.backend == Backend::reference) {
      reference::linear(args);
    } else if constexpr (CHUNKSTATE_HAS_CUDA) {
      cuda::linear(args, exec.stream, exec.autotune);
    } else {
      throw BackendError("linear", exec.backend);
    }
  }
}

}  // namespace chunkstate
