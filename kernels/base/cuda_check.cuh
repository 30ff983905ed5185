// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace chunkstate {

/// A CUDA call or launch failed.
/// `kernels/rms_norm/cuda.cu:45: rms_norm launch: cudaErrorInvalidConfiguration: invalid ...`
class CudaError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// `kernels/rms_norm/cuda.cu:45`: the path from the repository's root, wherever that was built.
inline std::string source_place(const std::source_location& where) {
  const std::string_view path = where.file_name();
  const auto root = path.rfind("kernels/");
  return std::string(root == std::string_view::npos ? path : path.substr(root)) + ":" +
         std::to_string(where.line());
}

/// `what` names the operator and the step. Throws CudaError.
inline void check_cuda(cudaError_t error, std::string_view what,
                       const std::source_location& where = std::source_location::current()) {
  if (error == cudaSuccess) return;
  throw CudaError(source_place(where) + ": " + std::string(what) + ": " + cudaGetErrorName(error) +
                  ": " + cudaGetErrorString(error));
}

}  // namespace chunkstate
