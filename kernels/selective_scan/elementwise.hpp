// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

// Rows of channels, for the CPU's variants of selective_scan.
namespace chunkstate::cpu {

/// delta = dt + bias, or softplus of it. `bias` may be nullptr. `delta` may be `dt`.
void scan_step_sizes(const float* dt, const float* bias, bool softplus, std::int64_t channels,
                     float* delta);

/// y = (y + D x) silu(z). `D` and `z` may be nullptr.
void skip_and_gate(const float* x, const float* D, const float* z, std::int64_t channels, float* y);

}  // namespace chunkstate::cpu
