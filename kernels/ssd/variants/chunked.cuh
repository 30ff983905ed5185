// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/ssd/ssd.hpp"

namespace chunkstate::cuda {

/// The fused scan in fp32 arithmetic: any semantics, shape, storage type and position. Throws
/// ShapeError where a round's tiles do not fit into shared memory (state_dim above about 800).
void ssd_chunked(SsdSemantics semantics, const SsdArgs& args, CUstream_st* stream);

}  // namespace chunkstate::cuda
