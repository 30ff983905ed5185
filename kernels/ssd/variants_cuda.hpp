// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/ssd.hpp"

// The rows of the variant table on NVIDIA GPUs, beside the row's file under variants/.
namespace chunkstate::cuda {

/// Token by token with the state in registers; takes state_dim <= 256.
void ssd_sequential(const SsdArgs& args, CUstream_st* stream);

/// Stage by stage, every intermediate in memory: cumulative sums, C B^T, chunk states, start
/// states, outputs. fp32 arithmetic for every storage type.
void ssd_default(const SsdArgs& args, CUstream_st* stream);

/// Fused. A tensor-core kernel for Hopper serves bf16 at head_dim 64 and state_dim 128; every other
/// case is computed in fp32.
void ssd_default_optimized(const SsdArgs& args, CUstream_st* stream);

/// Fused, every chunk from a zero state, chunks side by side.
void ssd_independent(const SsdArgs& args, CUstream_st* stream);

/// Fused, with the states of the last chunks side by side in a ring of slots.
void ssd_lookback(const SsdArgs& args, CUstream_st* stream);

/// Fused, two passes over every chunk: its end state first, then the outputs that read it.
void ssd_own_end_state(const SsdArgs& args, CUstream_st* stream);

/// Bytes of scratch memory: of `default`; of the fused variants; of `lookback`, whose slots may
/// need a copy in fp32.
std::int64_t ssd_default_scratch(const SsdArgs& args);
std::int64_t ssd_fused_scratch(const SsdArgs& args);
std::int64_t ssd_lookback_scratch(const SsdArgs& args);

}  // namespace chunkstate::cuda
