// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear/matmul_plan.hpp"

#include <algorithm>
#include <bit>

#include "kernels/base/cuda_check.cuh"

namespace chunkstate::cuda {
namespace {

cudaDataType_t library_type(DType dtype) {
  return dtype == DType::fp32 ? CUDA_R_32F : dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_16F;
}

template <class Value>
void set(cublasLtMatmulDesc_t matmul, cublasLtMatmulDescAttributes_t name, const Value& value) {
  check_blas(cublasLtMatmulDescSetAttribute(matmul, name, &value, sizeof(value)), "linear setting");
}

template <class Value>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t name,
         const Value& value) {
  check_blas(cublasLtMatmulPreferenceSetAttribute(preference, name, &value, sizeof(value)),
             "linear preference");
}

}  // namespace

void check_blas(cublasStatus_t status, std::string_view what, const std::source_location& where) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw CudaError(source_place(where) + ": " + std::string(what) + ": " +
                  cublasLtGetStatusString(status));
}

template <class Byte>
std::uint32_t alignment_of(const BasicAnyView<Byte, 2>& view) {
  const auto address = reinterpret_cast<std::uintptr_t>(view.data);
  return std::uint32_t{1} << std::min(8, std::countr_zero(address | 256U));
}
template std::uint32_t alignment_of(const AnyView<2>& view);
template std::uint32_t alignment_of(const ConstAnyView<2>& view);

template <class Byte>
MatmulPlan::Layout MatmulPlan::layout_of(const BasicAnyView<Byte, 2>& view) {
  cublasLtMatrixLayout_t layout = nullptr;
  const std::int64_t pitch = view.extent[0] > 1 ? view.stride[0] : view.extent[1];
  check_blas(cublasLtMatrixLayoutCreate(&layout, library_type(view.dtype),
                                        static_cast<std::uint64_t>(view.extent[1]),
                                        static_cast<std::uint64_t>(view.extent[0]), pitch),
             "linear layout");
  return Layout(layout);
}

MatmulPlan::MatmulPlan(cublasLtHandle_t library, const LinearArgs& args)
    : library_(library),
      weight_(layout_of(args.weight)),
      x_(layout_of(args.x)),
      y_(layout_of(args.y)) {
  cublasLtMatmulDesc_t matmul = nullptr;
  check_blas(cublasLtMatmulDescCreate(&matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F), "linear product");
  matmul_.reset(matmul);
  set(matmul, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);  // weight is [in, out] to the library

  cublasLtMatmulPreference_t preference = nullptr;
  check_blas(cublasLtMatmulPreferenceCreate(&preference), "linear preference");
  preference_.reset(preference);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, matmul_workspace_bytes);
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(args.weight));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(args.x));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(args.y));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(args.y));
}

std::vector<MatmulAlgorithm> MatmulPlan::offered(int most) const {
  std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<std::size_t>(most));
  int count = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(library_, matmul_.get(), weight_.get(), x_.get(), y_.get(),
                                     y_.get(), preference_.get(), most, results.data(), &count);
  if (status != CUBLAS_STATUS_SUCCESS) count = 0;
  std::vector<MatmulAlgorithm> algorithms;
  for (int i = 0; i < count; ++i) {
    const auto& result = results[static_cast<std::size_t>(i)];
    if (result.state == CUBLAS_STATUS_SUCCESS) {
      algorithms.push_back({result.algo, result.workspaceSize});
    }
  }
  return algorithms;
}

bool MatmulPlan::accepts(MatmulAlgorithm& algorithm) const {
  cublasLtMatmulHeuristicResult_t result = {};
  const cublasStatus_t status =
      cublasLtMatmulAlgoCheck(library_, matmul_.get(), weight_.get(), x_.get(), y_.get(), y_.get(),
                              &algorithm.algorithm, &result);
  algorithm.workspace = result.workspaceSize;
  return status == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= matmul_workspace_bytes;
}

cublasStatus_t MatmulPlan::run(const LinearArgs& args, const MatmulAlgorithm& algorithm,
                               void* workspace, CUstream_st* stream) const {
  const float alpha = args.scale;
  const float beta = args.accumulate ? 1.0F : 0.0F;
  return cublasLtMatmul(library_, matmul_.get(), &alpha, args.weight.data, weight_.get(),
                        args.x.data, x_.get(), &beta, args.y.data, y_.get(), args.y.data, y_.get(),
                        &algorithm.algorithm, workspace, algorithm.workspace, stream);
}

}  // namespace chunkstate::cuda
