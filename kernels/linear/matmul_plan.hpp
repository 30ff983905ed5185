// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cublasLt.h>

#include <cstddef>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/linear/linear.hpp"

// cuBLASLt's description of a product, and the algorithms it offers for it.
namespace chunkstate::cuda {

/// Hopper's fastest algorithms split K through a workspace of this size.
inline constexpr std::size_t matmul_workspace_bytes{linear_scratch_bytes};

/// Throws CudaError.
void check_blas(cublasStatus_t status, std::string_view what,
                const std::source_location& where = std::source_location::current());

template <class Handle, cublasStatus_t (*destroy)(Handle)>
struct BlasDestroyer {
  using pointer = Handle;
  void operator()(Handle handle) const { destroy(handle); }
};
using BlasLibrary = std::unique_ptr<void, BlasDestroyer<cublasLtHandle_t, cublasLtDestroy>>;

struct MatmulAlgorithm {
  cublasLtMatmulAlgo_t algorithm = {};
  std::size_t workspace = 0;
};

/// y^T [out, tokens] = weight [out, in] x^T [in, tokens]: the library's matrices are column-major,
/// so a row-major [rows, columns] is its [columns, rows].
class MatmulPlan {
 public:
  MatmulPlan(cublasLtHandle_t library, const LinearArgs& args);

  /// At most `most`, the library's favourite first; none where it has no algorithm. Sums are
  /// ordered: partial ones meet in fp32, none through atomics, so a run can be repeated bit by bit.
  std::vector<MatmulAlgorithm> offered(int most) const;
  /// Whether a stored algorithm runs here; fills in its workspace.
  bool accepts(MatmulAlgorithm& algorithm) const;
  /// `workspace` has algorithm.workspace bytes.
  cublasStatus_t run(const LinearArgs& args, const MatmulAlgorithm& algorithm, void* workspace,
                     CUstream_st* stream) const;

 private:
  using Matmul =
      std::unique_ptr<void, BlasDestroyer<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>>;
  using Layout =
      std::unique_ptr<void, BlasDestroyer<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>>;
  using Preference =
      std::unique_ptr<void,
                      BlasDestroyer<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>>;
  template <class Byte>
  static Layout layout_of(const BasicAnyView<Byte, 2>& view);

  cublasLtHandle_t library_;
  Matmul matmul_;
  Layout weight_, x_, y_;
  Preference preference_;
};

/// The largest power of two, up to 256, that divides the address.
template <class Byte>
std::uint32_t alignment_of(const BasicAnyView<Byte, 2>& view);

}  // namespace chunkstate::cuda
