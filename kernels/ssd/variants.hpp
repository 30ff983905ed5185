// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/base/executor.hpp"

namespace chunkstate {

struct SsdArgs;

/// What the state remembers across a chunk border. Chunk c ends where chunk c + 1 begins.
enum class SsdSemantics : std::uint8_t {
  exact,          // everything; chunk_size is blocking only
  independent,    // nothing: every chunk starts from a zero state
  lookback,       // what the current and the `lookback` previous chunks wrote
  own_end_state,  // nothing, but every token also reads exp(sum of delta A up to it) times the
                  // state that its own chunk, started from zero, ends with: what the seed project's
                  // "independent" code computes. Not causal; a ragged last chunk uses its own
                  // tokens.
};

/// One way to compute the scan. All variants share one contract and differ in semantics, cost and
/// rounding.
struct SsdVariant {
  std::string_view name;     // the word used in YAML, on the command line and in the results file
  std::string_view summary;  // one sentence
  SsdSemantics semantics;
  float tolerance;  // largest error relative to max|y| that the tests accept, fp32 storage
  void (*cpu)(const Executor&, const SsdArgs&);  // nullptr: none
  void (*cuda)(const SsdArgs&, CUstream_st*);    // nullptr: none, or built without CUDA
  /// Bytes of scratch memory that `cuda` takes, at most, from extents and types alone; nullptr:
  /// none.
  std::int64_t (*cuda_scratch)(const SsdArgs&) = nullptr;

  /// A token's result needs no later token, so a sequence can be continued from a cached state.
  constexpr bool causal() const { return semantics != SsdSemantics::own_end_state; }
};

/// Every variant, in the order in which help and tables list them.
std::span<const SsdVariant> ssd_variants();

/// nullptr if there is none of this name.
const SsdVariant* find_ssd_variant(std::string_view name);

/// States a sequence keeps: one, or lookback + 1 for SsdSemantics::lookback, where slot c % slots
/// holds what chunk c wrote, decayed to the newest token.
std::int64_t state_slots(const SsdVariant& variant, std::int64_t lookback);

}  // namespace chunkstate
