// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/attention/attention.hpp"

namespace chunkstate::cuda {

/// Attention on tensor cores. False, without having done anything, unless all four arrays have one
/// 16-bit type, head_dim is 64 or 128 and rows can be read 16 bytes at a time.
bool flash_attention(const AttentionArgs& args, CUstream_st* stream);

}  // namespace chunkstate::cuda
