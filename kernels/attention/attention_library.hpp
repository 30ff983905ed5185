// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "kernels/attention/attention.hpp"

namespace chunkstate::cuda {

/// Attention through cuDNN. False, without having done anything, where this build or this machine
/// has no cuDNN, or cuDNN no plan for these arrays. Plans are made at a shape's first call and
/// kept. Repeats bit by bit. Throws CudaError if a plan that was made does not run.
bool attention_by_library(const AttentionArgs& args, CUstream_st* stream);

/// What attention_by_library would do, after one call with these arguments: "cuDNN 9.14.0", or why
/// not, as in "no cuDNN in this build".
struct AttentionLibrary {
  bool used = false;
  std::string text;
};
AttentionLibrary attention_library(const AttentionArgs& args);

}  // namespace chunkstate::cuda
