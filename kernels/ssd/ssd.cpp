// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/ssd.hpp"

#include "kernels/base/check.hpp"
#include "kernels/base/launches.hpp"
#include "kernels/ssd/gated_step.hpp"

namespace chunkstate {
namespace {

/// `message()` is made only to be thrown: a decode step allocates nothing.
template <class Message>
void require(bool holds, const char* op, const Message& message) {
  if (!holds) throw ShapeError(std::string(op) + ": " + message());
}

/// Dimensions in words.
struct Words {
  const char* x;
  const char* dt;
  const char* B;
};
constexpr Words of_tokens{"tokens x heads x head_dim", "tokens x heads",
                          "tokens x groups x state_dim"};
constexpr Words of_batch{"batch x heads x head_dim", "batch x heads", "batch x groups x state_dim"};

/// What SsdArgs and SsdStepArgs have in common.
template <class Args>
void check_common(const char* op, const Args& args, const Words& words) {
  const std::int64_t count = args.x.extent[0];
  const std::int64_t heads = args.x.extent[1];
  const std::int64_t head_dim = args.x.extent[2];
  const std::int64_t groups = args.B.extent[1];
  const std::int64_t state_dim = args.B.extent[2];
  check_shape(op, "x", args.x, {count, heads, head_dim}, words.x);
  check_shape(op, "dt", args.dt, {count, heads}, words.dt);
  check_shape(op, "B", args.B, {count, groups, state_dim}, words.B);
  check_shape(op, "C", args.C, {count, groups, state_dim}, words.B);
  check_shape(op, "A", args.A, {heads}, "heads");
  check_shape(op, "dt_bias", args.dt_bias, {heads}, "heads");
  check_shape(op, "D", args.D, {heads}, "heads");
  check_shape(op, "y", args.y, {count, heads, head_dim}, words.x);
  require(groups >= 1 && heads % groups == 0, op, [&] {
    return "x has " + std::to_string(heads) + " heads, expected a multiple of the " +
           std::to_string(groups) + " groups of B";
  });
  require(args.chunk_size >= 1, op, [&] {
    return "chunk_size is " + std::to_string(args.chunk_size) + ", expected at least 1";
  });
}

void check_step(const char* op, const SsdVariant& variant, const SsdStepArgs& args) {
  check_common(op, args, of_batch);
  require(variant.causal(), op, [&] {
    return "variant " + std::string(variant.name) + " is not causal and has no decode form";
  });
  const std::int64_t batch = args.x.extent[0];
  const std::int64_t slots = args.state.extent[1];
  check_shape(op, "state", args.state,
              {batch, slots, args.x.extent[1], args.x.extent[2], args.B.extent[2]},
              "batch x slots x heads x head_dim x state_dim");
  const bool one_slot = variant.semantics != SsdSemantics::lookback;
  require(one_slot ? slots == 1 : slots >= 1, op, [&] {
    return "state has " + std::to_string(slots) + " slots, expected " +
           (one_slot ? "1" : "at least 1");
  });
  check_shape(op, "positions", args.positions, {batch}, "batch");
}

}  // namespace

void ssd_scan(const Executor& exec, const SsdVariant& variant, const SsdArgs& args) {
  check_common("ssd_scan", args, of_tokens);
  require(args.lookback >= 0, "ssd_scan",
          [&] { return "lookback is " + std::to_string(args.lookback) + ", expected at least 0"; });
  require(args.first_position >= 0, "ssd_scan", [&] {
    return "first_position is " + std::to_string(args.first_position) + ", expected at least 0";
  });
  require(variant.causal() || args.first_position % args.chunk_size == 0, "ssd_scan", [&] {
    return "first_position is " + std::to_string(args.first_position) + ", but variant " +
           std::string(variant.name) + " needs whole chunks of " + std::to_string(args.chunk_size) +
           " tokens";
  });
  if (args.state) {
    check_shape(
        "ssd_scan", "state", args.state,
        {state_slots(variant, args.lookback), args.x.extent[1], args.x.extent[2], args.B.extent[2]},
        "slots x heads x head_dim x state_dim");
  }
  count_launches();
  switch (exec.backend) {
    case Backend::reference:
      return reference::ssd_scan(variant.semantics, args);
    case Backend::cpu:
      if (variant.cpu != nullptr) return variant.cpu(exec, args);
      break;
    case Backend::cuda:
      if (variant.cuda != nullptr) return variant.cuda(args, exec.stream);
  }
  throw BackendError("ssd_scan(" + std::string(variant.name) + ")", exec.backend);
}

void ssd_step(const Executor& exec, const SsdVariant& variant, const SsdStepArgs& args) {
  check_step("ssd_step", variant, args);
  count_launches();
  switch (exec.backend) {
    case Backend::reference:
      return reference::ssd_step(variant.semantics, args);
    case Backend::cpu:
      return cpu::ssd_step(exec, variant.semantics, args);
    case Backend::cuda:
      if constexpr (CHUNKSTATE_HAS_CUDA) {
        return cuda::ssd_step(variant.semantics, args, exec.stream);
      }
  }
  throw BackendError("ssd_step", exec.backend);
}

void ssd_gated_step(const Executor& exec, const SsdVariant& variant, const SsdGatedStepArgs& args) {
  check_step("ssd_gated_step", variant, args.step);
  const auto [batch, heads, head_dim] = args.step.x.extent;
  check_shape("ssd_gated_step", "z", args.z, {batch, heads, head_dim}, "batch x heads x head_dim");
  check_shape("ssd_gated_step", "squares", args.squares, {batch, heads}, "batch x heads");
  if (exec.backend != Backend::cuda) throw BackendError("ssd_gated_step", exec.backend);
  count_launches();
  if constexpr (CHUNKSTATE_HAS_CUDA) cuda::ssd_gated_step(variant.semantics, args, exec.stream);
}

}  // namespace chunkstate
