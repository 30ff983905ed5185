// SPDX-License-Identifier: Apache-2.0
#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "kernels/base/cuda_check.cuh"
#include "kernels/base/workspace.cuh"
#include "kernels/linear/matmul_library.cuh"

namespace chunkstate::cuda {
namespace {

// Hopper's fastest algorithms split K through a workspace of this size.
constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

void check_blas(cublasStatus_t status, std::string_view what,
                const std::source_location& where = std::source_location::current()) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw CudaError(source_place(where) + ": " + std::string(what) + ": " +
                  cublasLtGetStatusString(status));
}

template <class Handle, cublasStatus_t (*destroy)(Handle)>
struct Destroyer {
  using pointer = Handle;
  void operator()(Handle handle) const { destroy(handle); }
};
using Library = std::unique_ptr<void, Destroyer<cublasLtHandle_t, cublasLtDestroy>>;
using Matmul = std::unique_ptr<void, Destroyer<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>>;
using Layout =
    std::unique_ptr<void, Destroyer<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>>;
using Preference =
    std::unique_ptr<void, Destroyer<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>>;

cudaDataType_t library_type(DType dtype) {
  return dtype == DType::fp32 ? CUDA_R_32F : dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_16F;
}

// The library's matrices are column-major: a row-major [rows, columns] is its [columns, rows].
template <class Byte>
Layout layout_of(const BasicAnyView<Byte, 2>& view) {
  cublasLtMatrixLayout_t layout = nullptr;
  const std::int64_t pitch = view.extent[0] > 1 ? view.stride[0] : view.extent[1];
  check_blas(cublasLtMatrixLayoutCreate(&layout, library_type(view.dtype),
                                        static_cast<std::uint64_t>(view.extent[1]),
                                        static_cast<std::uint64_t>(view.extent[0]), pitch),
             "linear layout");
  return Layout(layout);
}

// The largest power of two, up to 256, that divides the address and the pitch.
template <class Byte>
std::uint32_t alignment_of(const BasicAnyView<Byte, 2>& view) {
  const auto address = reinterpret_cast<std::uintptr_t>(view.data);
  return std::uint32_t{1} << std::min(8, std::countr_zero(address | 256U));
}

// What an algorithm is chosen by: types, accumulate, extents, pitches, alignments, device.
using Key = std::array<std::int64_t, 12>;

struct Plan {
  Matmul matmul;
  Layout weight, x, y;
  cublasLtMatmulAlgo_t algorithm;
  std::size_t workspace = 0;
  bool found = false;
};

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

// y^T [out, tokens] = weight [out, in] x^T [in, tokens]: in the library's order weight is [in,
// out].
Plan make_plan(cublasLtHandle_t library, const LinearArgs& args) {
  Plan plan;
  cublasLtMatmulDesc_t matmul = nullptr;
  check_blas(cublasLtMatmulDescCreate(&matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F), "linear product");
  plan.matmul.reset(matmul);
  set(matmul, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  plan.weight = layout_of(args.weight);
  plan.x = layout_of(args.x);
  plan.y = layout_of(args.y);

  cublasLtMatmulPreference_t preference = nullptr;
  check_blas(cublasLtMatmulPreferenceCreate(&preference), "linear preference");
  const Preference owner(preference);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
  // Partial sums meet in fp32 and in a fixed order, so that a run can be repeated bit by bit.
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(args.weight));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(args.x));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(args.y));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(args.y));

  cublasLtMatmulHeuristicResult_t result = {};
  int count = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(library, matmul, plan.weight.get(), plan.x.get(), plan.y.get(),
                                     plan.y.get(), preference, 1, &result, &count);
  plan.found = status == CUBLAS_STATUS_SUCCESS && count > 0;
  plan.algorithm = result.algo;
  plan.workspace = result.workspaceSize;
  return plan;
}

struct PlanCache {
  std::mutex mutex;
  Library library;
  std::map<Key, std::unique_ptr<const Plan>> plans;
};

// The library's handle belongs to the device that was current when it was made.
PlanCache& plans_of(int device) {
  static std::mutex mutex;
  static std::map<int, std::unique_ptr<PlanCache>> caches;
  const std::lock_guard lock(mutex);
  auto& cache = caches[device];
  if (!cache) {
    cache = std::make_unique<PlanCache>();
    cublasLtHandle_t library = nullptr;
    check_blas(cublasLtCreate(&library), "linear library");
    cache->library.reset(library);
  }
  return *cache;
}

}  // namespace

bool linear_by_library(const LinearArgs& args, CUstream_st* stream) {
  const bool types_fit = args.x.dtype == args.weight.dtype &&
                         (args.y.dtype == args.x.dtype || args.y.dtype == DType::fp32);
  if (!types_fit || args.bias) return false;

  int device = 0;
  check_cuda(cudaGetDevice(&device), "linear device");
  PlanCache& cache = plans_of(device);
  const Key key{static_cast<int>(args.x.dtype),
                static_cast<int>(args.y.dtype),
                args.x.extent[0],
                args.x.extent[1],
                args.weight.extent[0],
                args.x.stride[0],
                args.weight.stride[0],
                args.y.stride[0],
                alignment_of(args.x),
                alignment_of(args.weight),
                alignment_of(args.y),
                args.accumulate};
  const Plan* plan = nullptr;
  {
    const std::lock_guard lock(cache.mutex);
    auto& entry = cache.plans[key];
    if (!entry) entry = std::make_unique<const Plan>(make_plan(cache.library.get(), args));
    plan = entry.get();
  }
  if (!plan->found) return false;

  const Workspace workspace(static_cast<std::int64_t>(plan->workspace), stream);
  const float alpha = args.scale;
  const float beta = args.accumulate ? 1.0F : 0.0F;
  check_blas(cublasLtMatmul(cache.library.get(), plan->matmul.get(), &alpha, args.weight.data,
                            plan->weight.get(), args.x.data, plan->x.get(), &beta, args.y.data,
                            plan->y.get(), args.y.data, plan->y.get(), &plan->algorithm,
                            workspace.as<void>(), plan->workspace, stream),
             "linear product");
  return true;
}

}  // namespace chunkstate::cuda
